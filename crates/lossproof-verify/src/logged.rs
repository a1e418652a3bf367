//! The loss a trainer logs, where that is not the loss of the whole batch.

use super::{
    VerifyError, capability,
    semantics::{Semantics, per_prediction, weighted_scale, weighted_sum},
};
use lossproof_subject::Subject;

/// What the loss that a trainer logs is made of.
pub(crate) enum LoggedLoss {
    /// All predictions of the batch, at the weights of the semantics.
    Whole,
    /// The batches that its log policy names, each by itself.
    Parts {
        /// The mean of their losses, each the weighted sum of the evaluated token losses.
        expected: f64,
        /// The mean of what rounding errors of these are relative to.
        scale: f64,
    },
}

impl LoggedLoss {
    /// Asks a subject for the token losses of the batches that it says it logs.
    pub(crate) fn of(subject: &mut dyn Subject, meaning: &Semantics) -> Result<Self, VerifyError> {
        let policy = subject.info().log_policy;
        if meaning.is_logged_whole(policy) {
            return Ok(Self::Whole);
        }
        let parts = policy.logged(&meaning.batch, &meaning.spec);
        let (mut expected, mut scale) = (0.0, 0.0);
        for part in &parts {
            let losses = capability::evaluator(subject)?.evaluate(part)?;
            let weights = per_prediction(&meaning.spec, part);
            expected += weighted_sum(&weights, losses.iter().copied());
            scale += weighted_scale(&weights, losses);
        }
        let count = parts.len() as f64;
        Ok(Self::Parts { expected: expected / count, scale: scale / count })
    }

    /// The loss to be logged and its scale, from the evaluated losses of all predictions.
    pub(crate) fn expected(&self, meaning: &Semantics, token_losses: &[f64]) -> (f64, f64) {
        match self {
            Self::Whole => {
                let losses = || token_losses.iter().copied();
                (meaning.loss(losses()), meaning.loss_scale(losses()))
            }
            Self::Parts { expected, scale } => (*expected, *scale),
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole)
    }
}
