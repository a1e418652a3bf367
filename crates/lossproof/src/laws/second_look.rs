//! The scale of a gradient's rounding, taken from the tokens themselves before a law convicts narrowly.

use super::trial::{Computed, Trial};
use crate::verify::blocks;
use lossproof_numerics::Block;
use lossproof_spec::{GlobalBatch, LossSpec, TokenWeights};

/// Cancellation that a second look can find: tokens whose gradients add up to a thousandth of their norms. Beyond that an
/// error is no rounding, and looking twice would only make a broken trainer slow to judge.
const CANCELLATION: f64 = 1024.0;

impl Trial<'_> {
    /// Whether an error exceeds its bound by no more than cancellation between tokens could explain.
    pub(super) fn is_narrow(error: f64, bound: f64) -> bool {
        error > bound && error <= CANCELLATION * bound
    }

    /// `Σ_t |w_t|·‖∇ℓ_t‖` of every block, computed token by token; `None` where it cannot be: labels cannot be ignored, or the
    /// parameters are no longer those of the computation.
    pub(super) fn token_norms(&mut self, of: &Computed, blocks: &[Block]) -> Option<Vec<f64>> {
        let origin = &of.origin;
        if origin.loads != self.loads || !self.facts.info.limits.ignore_index {
            return None;
        }
        let weights = match &origin.upstream {
            Some(upstream) => upstream.clone(),
            None => {
                TokenWeights::new(&origin.spec, &origin.batch.layout()).ok()?.per_prediction(&origin.batch)
            }
        };
        let sum = LossSpec {
            label_smoothing: origin.spec.label_smoothing,
            z_loss: origin.spec.z_loss,
            ..LossSpec::sum()
        };
        let mut norms = vec![0.0; blocks.len()];
        let weighed: Vec<_> = origin.batch.predictions().zip(weights).filter(|(p, _)| p.supervised).collect();
        for (prediction, weight) in weighed {
            let sequence = origin.batch.sequences().nth(prediction.sequence)?;
            let alone = sequence.supervise_only(|position| position == prediction.position);
            let token = self.gradient(&sum, &GlobalBatch::single(alone)).ok()?;
            for (norm, block) in norms.iter_mut().zip(blocks) {
                *norm += weight.abs() * blocks::norm(&token.gradient, block);
            }
        }
        Some(norms)
    }
}
