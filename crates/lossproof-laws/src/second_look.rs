//! The scale of a gradient's rounding, taken from the tokens themselves before a law convicts narrowly.

use super::trial::{Computed, Trial};
use crate::blocks;
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

    /// `Σ_t |w_t|·‖∇ℓ_t‖` of every block, computed token by token, of queries and keys no less than of values; `None` where it cannot be: labels cannot be ignored, or the
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
        Some(blocks.iter().zip(&norms).map(|(block, &own)| own.max(of_keys(block, blocks, &norms))).collect())
    }
}

/// What the gradients of queries and keys are differences of. Softmax hands `p·(dp − p·dp)` back to the scores: where keys have
/// nearly the same values that cancels within one token, and its rounding is that of `dp`, the gradient that reaches the
/// values. Their block of the parameter is the same sum without the difference.
fn of_keys(block: &Block, blocks: &[Block], norms: &[f64]) -> f64 {
    let of_scores = ["query", "key"].contains(&block.label.as_str());
    let values = |other: &Block| of_scores && other.label == "value" && other.parameter == block.parameter;
    blocks.iter().zip(norms).filter(|(other, _)| values(other)).map(|(_, &norm)| norm).fold(0.0, f64::max)
}
