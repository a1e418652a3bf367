//! What the training loop knows of a model.

use super::{batch::Batch, settings::Settings};
use candle_core::{Result, Tensor};

/// Tokens of the vocabulary.
pub const VOCABULARY: usize = 20;
/// Positions that a row may have.
pub const POSITIONS: usize = 24;
/// Width of the residual stream.
pub(super) const WIDTH: usize = 8;
/// Blocks.
pub(super) const LAYERS: usize = 2;
/// Standard deviation of initial weights: large enough for attention to be far from uniform.
pub(super) const DEVIATION: f64 = 0.3;

/// A decoder over the variables that it was made with.
pub(super) trait Decoder: Send {
    /// Logits `[rows, width, vocabulary]`.
    fn logits(&self, batch: &Batch, settings: &Settings) -> Result<Tensor>;
}
