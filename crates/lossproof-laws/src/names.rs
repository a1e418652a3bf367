//! The parameters that laws and hypotheses speak of, by Hugging Face's names.

/// The token embedding, which is also the head.
pub const EMBEDDING: &str = "wte.weight";
/// The position embedding.
pub const POSITIONS: &str = "wpe.weight";
/// Gain of the final layer norm.
pub const GAIN: &str = "ln_f.weight";
/// Whether the head has parameters of its own, so that the embedding does not say what the logits are.
pub fn head_of_its_own<'a>(mut names: impl Iterator<Item = &'a String>) -> bool {
    names.any(|name| name.starts_with("lm_head"))
}

/// Bias of the final layer norm.
pub const BIAS: &str = "ln_f.bias";
