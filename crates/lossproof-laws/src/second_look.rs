//! The scale of a gradient's rounding, taken from the tokens themselves before a law convicts narrowly.
//!
//! The scale is the subject's own word, so it is believed only as far as it is bound by other words of the
//! subject: the gradients of single tokens must add up, with their weights, to the gradient that is judged,
//! and those of half of the tokens, drawn at random, to the gradient of that half. A subject that inflates
//! single tokens to widen a bound fails one or the other.

use super::trial::{Computed, Trial};
use crate::blocks;
use lossproof_numerics::{Block, difference};
use lossproof_spec::{GlobalBatch, LossSpec, TokenWeights};
use lossproof_subject::TensorSet;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};

/// Cancellation that a second look can find: tokens whose gradients add up to a thousandth of their norms. Beyond that an
/// error is no rounding, and looking twice would only make a broken trainer slow to judge.
const CANCELLATION: f64 = 1024.0;

impl Trial<'_> {
    /// Whether an error exceeds its bound by no more than cancellation between tokens could explain.
    pub(super) fn is_narrow(error: f64, bound: f64) -> bool {
        error > bound && error <= CANCELLATION * bound
    }

    /// `Σ_t |w_t|·‖∇ℓ_t‖` of every block, computed token by token, for queries and keys no less than for
    /// values. `None` where it cannot be had: labels cannot be ignored, the parameters are no longer those of
    /// the computation, or the single tokens do not add up to what is judged.
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
        let mut unweighed = vec![0.0; blocks.len()];
        let (mut whole, mut half) = (Totals::default(), Totals::default());
        let mut drawn = BTreeSet::new();
        for (prediction, weight) in origin.batch.predictions().zip(weights) {
            if !prediction.supervised {
                continue;
            }
            let sequence = origin.batch.sequences().nth(prediction.sequence)?;
            let alone = sequence.supervise_only(|position| position == prediction.position);
            let token = self.gradient(&sum, &GlobalBatch::single(alone)).ok()?;
            for ((norm, plain), block) in norms.iter_mut().zip(&mut unweighed).zip(blocks) {
                let own = blocks::norm(&token.gradient, block);
                *norm += weight.abs() * own;
                *plain += own;
            }
            whole.add(weight, &token.gradient);
            if self.random.random::<bool>() {
                drawn.insert((prediction.sequence, prediction.position));
                half.add(1.0, &token.gradient);
            }
        }
        let mut index = 0;
        let chosen = origin.batch.map_sequences(|sequence| {
            let own = sequence.supervise_only(|position| drawn.contains(&(index, position)));
            index += 1;
            own
        });
        let of_half = self.gradient(&sum, &chosen).ok()?;
        let bound = self.gradient_bound(&origin.batch);
        let with_keys = |norms: &[f64]| -> Vec<f64> {
            let own = blocks.iter().zip(norms);
            own.map(|(block, &own)| own.max(of_keys(block, blocks, norms))).collect()
        };
        let (norms, unweighed) = (with_keys(&norms), with_keys(&unweighed));
        let adds_up = blocks.iter().enumerate().all(|(index, block)| {
            whole.is(&of.gradient, block, bound * norms[index])
                && half.is(&of_half.gradient, block, bound * unweighed[index])
        });
        adds_up.then_some(norms)
    }
}

/// A weighted sum of gradients.
#[derive(Default)]
struct Totals(BTreeMap<String, Vec<f64>>);

impl Totals {
    fn add(&mut self, weight: f64, gradient: &TensorSet) {
        for (name, tensor) in gradient {
            let total = self.0.entry(name.clone()).or_insert_with(|| vec![0.0; tensor.elements()]);
            for (index, value) in total.iter_mut().enumerate() {
                *value += weight * tensor.get(index);
            }
        }
    }

    /// Whether a block of a gradient is this sum, up to an absolute error. A block that nothing contributes
    /// to is.
    fn is(&self, gradient: &TensorSet, block: &Block, error: f64) -> bool {
        let (Some(total), Some(tensor)) = (self.0.get(&block.parameter), gradient.get(&block.parameter))
        else {
            return true;
        };
        let apart = difference(|index| total[index], |index| tensor.get(index), block.indices());
        apart.finite && (block.structurally_zero || apart.difference <= error)
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
