//! A forward and backward pass recorded elsewhere: the tie-breaker when two implementations disagree.

#[cfg(feature = "safetensors")]
mod file;

#[cfg(feature = "safetensors")]
pub use file::RecordedError;

use lossproof_spec::GlobalBatch;
use lossproof_subject::TensorSet;

/// What another implementation computed for one batch under the per-token mean, in f64.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The parameters it was computed at.
    pub parameters: TensorSet,
    /// The batch, one rank with one micro-batch.
    pub batch: GlobalBatch,
    /// `−log p(target)` of every prediction, ignored ones included, in the order of [`GlobalBatch::predictions`].
    pub token_losses: Vec<f64>,
    /// The per-token mean.
    pub loss: f64,
    /// Its gradient.
    pub gradient: TensorSet,
}
