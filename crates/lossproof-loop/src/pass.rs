//! What is gathered of the ranks in a window, as numbers: their tokens, and what each backward pass has seen.

use crate::{RunError, plan::whole};
use lossproof_spec::{LossSpec, Reduction};
use lossproof_subject::Observation;

/// What is gathered of one backward pass.
pub(crate) struct Pass {
    /// The loss, as it is differentiated, without the factor.
    pub(crate) loss: f64,
    /// Sum of the token losses, and their number.
    pub(crate) sum: f64,
    pub(crate) tokens: f64,
    /// Their mean, as a script takes it.
    pub(crate) mean: f64,
}

impl Pass {
    /// Numbers of a pass.
    pub(crate) const NUMBERS: usize = 4;

    pub(crate) fn of(seen: Observation, loss: &LossSpec) -> Self {
        let losses = seen.token_losses.unwrap_or_default();
        let sum: f64 = losses.iter().sum();
        let tokens = losses.len() as f64;
        let mean = if loss.reduction == Reduction::TokenMean { seen.loss } else { sum / tokens };
        Self { loss: seen.loss, sum, tokens, mean }
    }

    pub(crate) fn write(&self, into: &mut Vec<f64>) {
        into.extend([self.loss, self.sum, self.tokens, self.mean]);
    }

    pub(crate) fn read(numbers: &[f64]) -> Option<Self> {
        let &[loss, sum, tokens, mean] = numbers else { return None };
        Some(Self { loss, sum, tokens, mean })
    }
}

/// The supervised tokens of a window, from what each rank has counted. A process beyond the ranks has counted none.
///
/// # Errors
/// [`RunError::Rank`] when a rank has brought anything but one whole number.
pub(crate) fn tokens_of(counted: &[Vec<f64>], ranks: usize) -> Result<usize, RunError> {
    let mut tokens = 0_usize;
    for (rank, counted) in counted.iter().enumerate() {
        let own = match counted.as_slice() {
            &[number] if rank < ranks && number >= 0.0 && number.fract() == 0.0 => whole(number),
            [] if rank >= ranks => 0,
            other => return Err(RunError::Rank { rank, what: format!("counts its tokens as {other:?}") }),
        };
        tokens = tokens.saturating_add(own);
    }
    Ok(tokens)
}
