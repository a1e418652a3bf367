//! The parameters that laws and hypotheses speak of, by Hugging Face's names.

/// The token embedding, which is also the head.
pub(crate) const EMBEDDING: &str = "wte.weight";
/// The position embedding.
pub(crate) const POSITIONS: &str = "wpe.weight";
/// Gain of the final layer norm.
pub(crate) const GAIN: &str = "ln_f.weight";
/// Bias of the final layer norm.
pub(crate) const BIAS: &str = "ln_f.bias";
