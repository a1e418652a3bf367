//! GPT-2's configurations, as types: every dimension of a parameter is known at compile time.

use dfdx::shapes::{Const, ConstDim};
use std::{fmt, str::FromStr};

/// A GPT-2 configuration. Batch and sequence length stay run-time values.
pub trait Gpt2Config: 'static + Copy + fmt::Debug + Send + Sync {
    /// Number of token ids.
    type Vocabulary: ConstDim;
    /// Number of position ids.
    type Positions: ConstDim;
    /// Width of the residual stream.
    type Width: ConstDim;
    /// Attention heads.
    type Heads: ConstDim;
    /// Width of one head; heads × head size = width.
    type HeadSize: ConstDim;
    /// Inner width of the feed-forward block, four times the width.
    type FeedForward: ConstDim;
    /// Name, such as `gpt2-small`.
    const NAME: &'static str;
    /// Number of transformer blocks.
    const LAYERS: usize;

    /// Fails to compile when the dimensions contradict each other.
    const CHECKED: () = {
        assert!(
            Self::Heads::SIZE * Self::HeadSize::SIZE == Self::Width::SIZE,
            "heads × head size must be the width"
        );
        assert!(
            Self::FeedForward::SIZE == 4 * Self::Width::SIZE,
            "the feed-forward width must be four times the width"
        );
    };
}

/// A configuration by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Config {
    /// 1 layer of width 8, 64 tokens: small enough for a finite difference along every coordinate.
    Pico,
    /// 2 layers of width 32, byte-level vocabulary (256 bytes and one end-of-text token).
    Nano,
    /// GPT-2, 124M parameters (Radford et al. 2019).
    Small,
    /// GPT-2 medium, 355M.
    Medium,
    /// GPT-2 large, 774M.
    Large,
    /// GPT-2 XL, 1.5B.
    Xl,
}

/// The numbers of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Number of position ids.
    pub positions: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Number of transformer blocks.
    pub layers: usize,
}

impl ModelShape {
    /// The numbers of a configuration type.
    #[must_use]
    pub fn of<K: Gpt2Config>() -> Self {
        Self {
            vocabulary: K::Vocabulary::SIZE,
            positions: K::Positions::SIZE,
            width: K::Width::SIZE,
            heads: K::Heads::SIZE,
            layers: K::LAYERS,
        }
    }

    /// Names and shapes of all parameters in Hugging Face's naming and layout, in the model's order.
    #[must_use]
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let width = self.width;
        let mut parameters = vec![
            ("wte.weight".to_owned(), vec![self.vocabulary, width]),
            ("wpe.weight".to_owned(), vec![self.positions, width]),
        ];
        for layer in 0..self.layers {
            let block: [(&str, &[usize]); 12] = [
                ("ln_1.weight", &[width]),
                ("ln_1.bias", &[width]),
                ("attn.c_attn.weight", &[width, 3 * width]),
                ("attn.c_attn.bias", &[3 * width]),
                ("attn.c_proj.weight", &[width, width]),
                ("attn.c_proj.bias", &[width]),
                ("ln_2.weight", &[width]),
                ("ln_2.bias", &[width]),
                ("mlp.c_fc.weight", &[width, 4 * width]),
                ("mlp.c_fc.bias", &[4 * width]),
                ("mlp.c_proj.weight", &[4 * width, width]),
                ("mlp.c_proj.bias", &[width]),
            ];
            parameters.extend(block.map(|(name, shape)| (format!("h.{layer}.{name}"), shape.to_vec())));
        }
        parameters.push(("ln_f.weight".to_owned(), vec![width]));
        parameters.push(("ln_f.bias".to_owned(), vec![width]));
        parameters
    }

    /// Number of trainable parameters; the tied head counts once.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

macro_rules! configurations {
    ($($(#[$doc:meta])* $type:ident = $name:literal: $v:literal, $t:literal, $c:literal, $h:literal, $d:literal, $f:literal, $l:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $type;

            impl Gpt2Config for $type {
                type Vocabulary = Const<$v>;
                type Positions = Const<$t>;
                type Width = Const<$c>;
                type Heads = Const<$h>;
                type HeadSize = Const<$d>;
                type FeedForward = Const<$f>;
                const NAME: &'static str = $name;
                const LAYERS: usize = $l;
            }
        )*

        impl Config {
            /// Every configuration, smallest first.
            pub const ALL: &[Self] = &[$(Self::$type),*];

            /// Name, such as `gpt2-small`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$type => $type::NAME),* }
            }

            /// The numbers of this configuration.
            #[must_use]
            pub fn shape(self) -> ModelShape {
                match self { $(Self::$type => ModelShape::of::<$type>()),* }
            }
        }

        /// Runs generic code for the configuration type a [`Config`] stands for.
        macro_rules! with_config {
            ($value:expr, $K:ident => $body:expr) => {
                match $value { $($crate::Config::$type => { type $K = $crate::config::$type; $body }),* }
            };
        }
        pub(crate) use with_config;
    };
}

// Vocabulary, positions, width, heads, head size, feed-forward, layers.
configurations! {
    /// 1 528 parameters.
    Pico = "gpt2-pico": 64, 16, 8, 2, 4, 32, 1;
    /// 35 744 parameters.
    Nano = "gpt2-nano": 257, 64, 32, 4, 8, 128, 2;
    /// 124M parameters.
    Small = "gpt2-small": 50257, 1024, 768, 12, 64, 3072, 12;
    /// 355M parameters.
    Medium = "gpt2-medium": 50257, 1024, 1024, 16, 64, 4096, 24;
    /// 774M parameters.
    Large = "gpt2-large": 50257, 1024, 1280, 20, 64, 5120, 36;
    /// 1 558M parameters.
    Xl = "gpt2-xl": 50257, 1024, 1600, 25, 64, 6400, 48;
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no configuration has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no configuration `{0}`: choose gpt2-pico, gpt2-nano, gpt2-small, gpt2-medium, gpt2-large or gpt2-xl"
)]
pub struct UnknownConfig(String);

impl FromStr for Config {
    type Err = UnknownConfig;

    fn from_str(name: &str) -> Result<Self, UnknownConfig> {
        Self::ALL
            .iter()
            .copied()
            .find(|config| config.name() == name)
            .ok_or_else(|| UnknownConfig(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_those_of_the_published_models() {
        let counts: Vec<_> = Config::ALL.iter().map(|config| config.shape().parameter_count()).collect();
        assert_eq!(counts, [1_528, 35_744, 124_439_808, 354_823_168, 774_030_080, 1_557_611_200]);
    }

    #[test]
    fn names_round_trip_and_a_wrong_one_lists_the_right_ones() {
        for &config in Config::ALL {
            assert_eq!(config.name().parse(), Ok(config));
        }
        assert!("gpt2-tiny".parse::<Config>().unwrap_err().to_string().contains("gpt2-nano"));
    }
}
