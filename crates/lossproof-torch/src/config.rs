//! Shapes of GPT-2.

use crate::Failure;
use lossproof_subject::ParameterInfo;
use std::borrow::Cow;

/// As many as f64 values can be addressed.
const MOST_ELEMENTS: usize = isize::MAX as usize / size_of::<f64>();

/// The activation of the feed-forward layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`, the approximation GPT-2 was trained with. Hugging Face's `gelu_new`.
    #[default]
    TanhGelu,
    /// `x/2·(1 + erf(x/√2))`, the exact one. Hugging Face's `gelu`.
    ErfGelu,
}

/// The shape of a GPT-2 (Radford et al. 2019, §2.3). The feed-forward layer is four times as wide as the model, the
/// head is tied to the token embedding, and every layer norm has ε = 1e-5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpt2Config {
    /// What messages call it.
    pub name: Cow<'static, str>,
    /// Number of tokens, `V`.
    pub vocabulary: usize,
    /// Rows of the position embedding, `T`: the longest sequence.
    pub positions: usize,
    /// Size of an embedding, `C`; a multiple of `heads`.
    pub width: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Activation of the feed-forward layers.
    pub activation: Activation,
}

impl Gpt2Config {
    /// 1 528 parameters: small enough to difference every coordinate.
    pub const PICO: Self = Self::new("gpt2-pico", [64, 16, 8, 2, 1]);
    /// 35 744 parameters over bytes and one end-of-text token.
    pub const NANO: Self = Self::new("gpt2-nano", [257, 64, 32, 4, 2]);
    /// The 124M model of the paper, whose smallest is called 117M there.
    pub const SMALL: Self = Self::new("gpt2-small", [50_257, 1024, 768, 12, 12]);
    /// The 355M model.
    pub const MEDIUM: Self = Self::new("gpt2-medium", [50_257, 1024, 1024, 16, 24]);
    /// The 774M model.
    pub const LARGE: Self = Self::new("gpt2-large", [50_257, 1024, 1280, 20, 36]);
    /// The 1558M model.
    pub const XL: Self = Self::new("gpt2-xl", [50_257, 1024, 1600, 25, 48]);

    const fn new(name: &'static str, [vocabulary, positions, width, heads, layers]: [usize; 5]) -> Self {
        let name = Cow::Borrowed(name);
        Self { name, vocabulary, positions, width, heads, layers, activation: Activation::TanhGelu }
    }

    /// The configuration called `name`, such as `gpt2-nano`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::PICO, Self::NANO, Self::SMALL, Self::MEDIUM, Self::LARGE, Self::XL]
            .into_iter()
            .find(|config| config.name == name)
    }

    /// The parameters in the order in which [`Model`](crate::model::Model) takes their tensors.
    pub(crate) fn parameters(&self) -> Vec<ParameterInfo> {
        let width = self.width;
        let mut parameters = Vec::with_capacity(4 + 12 * self.layers);
        let mut push =
            |name: String, shape: Vec<usize>| parameters.push(ParameterInfo { name, shape, tied_to: None });
        push("wte.weight".to_owned(), vec![self.vocabulary, width]);
        push("wpe.weight".to_owned(), vec![self.positions, width]);
        for block in 0..self.layers {
            let affine = [
                ("ln_1", None, width),
                ("attn.c_attn", Some(width), 3 * width),
                ("attn.c_proj", Some(width), width),
                ("ln_2", None, width),
                ("mlp.c_fc", Some(width), 4 * width),
                ("mlp.c_proj", Some(4 * width), width),
            ];
            for (name, inputs, outputs) in affine {
                push(format!("h.{block}.{name}.weight"), inputs.into_iter().chain([outputs]).collect());
                push(format!("h.{block}.{name}.bias"), vec![outputs]);
            }
        }
        push("ln_f.weight".to_owned(), vec![width]);
        push("ln_f.bias".to_owned(), vec![width]);
        parameters[0].tied_to = Some("lm_head.weight".to_owned());
        parameters
    }

    /// Number of parameters, unless it overflows.
    fn elements(&self) -> Option<usize> {
        let square = self.width.checked_mul(self.width)?;
        let block = square.checked_mul(12)?.checked_add(self.width.checked_mul(13)?)?;
        let embeddings = self.vocabulary.checked_add(self.positions)?.checked_mul(self.width)?;
        block.checked_mul(self.layers)?.checked_add(embeddings)?.checked_add(self.width.checked_mul(2)?)
    }

    /// Whether such a model exists.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        let problem = if [self.vocabulary, self.positions, self.width, self.heads].contains(&0) {
            "every size but the number of layers must be positive".to_owned()
        } else if !self.width.is_multiple_of(self.heads) {
            format!("width {} is not a multiple of {} heads: change one of them", self.width, self.heads)
        } else {
            match self.elements() {
                Some(elements) if elements <= MOST_ELEMENTS => return Ok(()),
                _ => "more parameters than memory can address: take smaller sizes".to_owned(),
            }
        };
        Err(Failure::new(format!("{}: {problem}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_those_of_the_released_models() {
        let size = |name: &str| {
            let config = Gpt2Config::named(name).unwrap();
            let listed = config.parameters().iter().map(|info| info.shape.iter().product::<usize>()).sum();
            assert_eq!(config.elements(), Some(listed), "{name}");
            listed
        };
        let released = ["gpt2-small", "gpt2-medium", "gpt2-large", "gpt2-xl"].map(size);
        assert_eq!(released, [124_439_808, 354_823_168, 774_030_080, 1_557_611_200]);
        assert_eq!(["gpt2-pico", "gpt2-nano"].map(size), [1_528, 35_744]);
        assert_eq!(Gpt2Config::named("gpt3"), None);
    }
}
