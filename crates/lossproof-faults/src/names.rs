//! Names of parameters.

/// Token embedding and head.
pub(crate) const EMBEDDING: &str = "wte.weight";
/// Position embedding.
pub(crate) const POSITIONS: &str = "wpe.weight";
