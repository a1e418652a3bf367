//! Shapes of Llama.

use std::borrow::Cow;

/// The shape of a Llama (Touvron et al. 2023, §2.2): RMS norms before each of two layers, rotary positions,
/// `SwiGLU`, a head of its own and no biases. Several heads can share a key and a value, and a head can have
/// any even size.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// What messages call it.
    pub name: Cow<'static, str>,
    /// Number of tokens, `V`.
    pub vocabulary: usize,
    /// The longest sequence, `T`: position ids are below this. No parameter depends on it.
    pub positions: usize,
    /// Size of an embedding, `C`.
    pub width: usize,
    /// Heads that query, per block, `H`; a multiple of `key_value_heads`.
    pub heads: usize,
    /// Heads with a key and a value, per block, `K`; each serves `H/K` neighbouring heads that query.
    pub key_value_heads: usize,
    /// Features of a head, `d`; even. The heads together need not be as wide as the model.
    pub head_size: usize,
    /// Features between the two parts of the feed-forward layer.
    pub feed_forward: usize,
    /// Number of blocks.
    pub layers: usize,
    /// ε, added to the mean square in every RMS norm; positive.
    pub rms_epsilon: f64,
    /// θ, positive: at position t the pair (i, i + d/2) of a head is turned by `t·θ^(−2i/d)` radians.
    pub rotary_base: f64,
    /// What the embedding of a token is multiplied by, positive: 1 in Llama. Gemma has `√C` there (Hugging
    /// Face's `GemmaModel.forward`: `hidden_states * hidden_size**0.5`).
    pub embedding_scale: f64,
    /// What the head's products are multiplied by, before any cap; positive: 1 in Llama. Granite divides them by 8
    /// (Hugging Face's `GraniteForCausalLM.forward`: `logits / logits_scaling`).
    pub logit_scale: f64,
    /// The c of logits `c·tanh(z/c)`, positive: none in Llama. Gemma 2 has 30 (Gemma Team 2024, §2; Hugging
    /// Face's `final_logit_softcapping` of `Gemma2ForCausalLM`).
    pub logit_cap: Option<f64>,
    /// Low-rank adapters, where they alone are trained.
    pub adapters: Option<Adapters>,
}

/// Low-rank adapters (Hu et al. 2021) as Hugging Face's peft has them on queries and values: a weight W acts as
/// `W + (α/r)·B·A`, with A `[r, in]` uniform in `±1/√in` and B `[out, r]` zero in the beginning
/// (`peft.tuners.lora.Linear`, whose `scaling` is `lora_alpha/r` and which initialises A by `kaiming_uniform_` with
/// `a = √5`). A and B are trained, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapters {
    /// r, positive.
    pub rank: usize,
    /// α, positive.
    pub alpha: f64,
}

impl Adapters {
    /// α/r.
    pub(super) fn scaling(self) -> f64 {
        self.alpha / self.rank as f64
    }
}

impl LlamaConfig {
    /// 1 720 parameters, small enough to difference every coordinate, and no default that could hide a
    /// mistake: heads that are together wider than the model, a large ε and a small rotary base.
    pub const PICO: Self = Self::new("llama-pico", [64, 16, 8, 4, 2, 4, 12, 1], 1e-2, 100.0);
    /// 39 648 parameters over bytes and one end-of-text token.
    pub const NANO: Self = Self::new("llama-nano", [257, 64, 32, 4, 2, 8, 88, 2], 1e-5, 10_000.0);

    pub(super) const fn new(
        name: &'static str,
        sizes: [usize; 8],
        rms_epsilon: f64,
        rotary_base: f64,
    ) -> Self {
        let [vocabulary, positions, width, heads, key_value_heads, head_size, feed_forward, layers] = sizes;
        Self {
            name: Cow::Borrowed(name),
            vocabulary,
            positions,
            width,
            heads,
            key_value_heads,
            head_size,
            feed_forward,
            layers,
            rms_epsilon,
            rotary_base,
            embedding_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
            adapters: None,
        }
    }

    /// The configuration called `name`, such as `llama-nano`; `None` where none is.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::PICO, Self::NANO].into_iter().find(|config| config.name == name)
    }

    /// Number of parameters, unless it overflows.
    pub(super) fn elements(&self) -> Option<usize> {
        let heads =
            self.heads.checked_add(self.key_value_heads)?.checked_mul(2)?.checked_mul(self.head_size)?;
        let block = heads.checked_add(self.feed_forward.checked_mul(3)?)?.checked_add(2)?;
        let outside = self.vocabulary.checked_mul(2)?.checked_add(1)?;
        let base = block.checked_mul(self.layers)?.checked_add(outside)?.checked_mul(self.width)?;
        let Some(Adapters { rank, .. }) = self.adapters else { return Some(base) };
        let outputs = self.heads.checked_add(self.key_value_heads)?.checked_mul(self.head_size)?;
        let adapted = self.width.checked_mul(2)?.checked_add(outputs)?.checked_mul(rank)?;
        adapted.checked_mul(self.layers)?.checked_add(base)
    }
}
