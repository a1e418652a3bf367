//! Shapes of GPT-2.

use std::borrow::Cow;

/// The activation of the feed-forward layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`, the approximation GPT-2 was trained with. Hugging Face's
    /// `gelu_new`.
    #[default]
    TanhGelu,
    /// `x/2·(1 + erf(x/√2))`, the exact one. Hugging Face's `gelu`.
    ErfGelu,
}

/// The shape of a GPT-2 (Radford et al. 2019, §2.3). The feed-forward layer is four times as wide as the
/// model, the head is tied to the token embedding, and every layer norm has ε = 1e-5.
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

    /// Number of parameters, unless it overflows.
    pub(super) fn elements(&self) -> Option<usize> {
        let square = self.width.checked_mul(self.width)?;
        let block = square.checked_mul(12)?.checked_add(self.width.checked_mul(13)?)?;
        let embeddings = self.vocabulary.checked_add(self.positions)?.checked_mul(self.width)?;
        block.checked_mul(self.layers)?.checked_add(embeddings)?.checked_add(self.width.checked_mul(2)?)
    }
}
