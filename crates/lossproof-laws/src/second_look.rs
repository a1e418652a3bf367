//! The scale of a gradient's rounding, taken from the tokens themselves before a law convicts narrowly.
//!
//! The scale is the subject's own word, so it is believed only as far as it is bound by other words of the
//! subject: the gradients of single tokens must add up, with their weights, to the gradient that is judged,
//! and those of half of the tokens, drawn at random, to the gradient of that half. A subject that inflates
//! single tokens to widen a bound fails one or the other.

use super::trial::{Computed, Trial};
use crate::blocks;
use lossproof_numerics::{Block, difference_in_runs};
use lossproof_spec::{GlobalBatch, LossSpec, TokenWeights, to_f64};
use lossproof_subject::{Tensor, TensorSet};
use rand::RngExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    iter::once,
    ops::Range,
};

/// Cancellation that a second look can find: tokens whose gradients add up to a thousandth of their norms.
/// Beyond that an error is no rounding, and looking twice would only make a broken trainer slow to judge.
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
        let spec = self.of_lone(&origin.spec);
        let (chosen, drawn) = self.half(&spec, &origin.batch)?;
        let of_half = self.gradient(&spec, &chosen).ok()?;
        let half_weights = TokenWeights::new(&spec, &chosen.layout()).ok()?.per_prediction(&chosen);
        let largest = half_weights.iter().copied().fold(0.0, f64::max);
        let mut norms = vec![0.0; blocks.len()];
        let mut of_half_norms = vec![0.0; blocks.len()];
        let (mut whole, mut half) = (Totals::default(), Totals::default());
        for ((prediction, weight), half_weight) in origin.batch.predictions().zip(weights).zip(half_weights) {
            if !prediction.supervised {
                continue;
            }
            let sequence = origin.batch.sequences().nth(prediction.sequence)?;
            let alone = sequence.supervise_only(|position| position == prediction.position);
            let lone = self.lone(&spec, &alone).ok()??;
            let unit = 1.0 / to_f64(&lone.weight);
            let gradient = &lone.computed.gradient;
            for ((norm, of_half), block) in norms.iter_mut().zip(&mut of_half_norms).zip(blocks) {
                let own = unit * blocks::norm(gradient, block);
                *norm += weight.abs() * own;
                *of_half += largest * own;
            }
            whole.add(weight * unit, gradient);
            if drawn.contains(&(prediction.sequence, prediction.position)) {
                half.add(half_weight * unit, gradient);
            }
        }
        let with_keys = |norms: &[f64]| -> Vec<f64> {
            let own = blocks.iter().zip(norms);
            own.map(|(block, &own)| own.max(of_keys(block, blocks, norms))).collect()
        };
        let (norms, of_half_norms) = (with_keys(&norms), with_keys(&of_half_norms));
        let adds_up = blocks.iter().enumerate().all(|(index, block)| {
            let bound = self.gradient_bound(&origin.batch, &block.parameter);
            whole.is(&of.gradient, block, bound * norms[index])
                && half.is(&of_half.gradient, block, bound * of_half_norms[index])
        });
        adds_up.then_some(norms)
    }

    /// The largest of a scale and [`token_norms`](Self::token_norms) of a whole parameter, where those can be
    /// had.
    pub(crate) fn with_tokens_of(&mut self, of: &Computed, name: &str, factor: f64, scale: f64) -> f64 {
        let elements = of.gradient.get(name).map_or(0, Tensor::elements);
        let tokens = self.token_norms(of, &[Block::whole(name, elements)]).unwrap_or_default();
        tokens.into_iter().fold(scale, |scale, tokens| scale.max(factor * tokens))
    }

    /// The batch with a random half of its tokens supervised, and which. Where that leaves a group without
    /// tokens under a policy that gives such a batch no weights, each sequence keeps its first one.
    fn half(
        &mut self,
        spec: &LossSpec,
        batch: &GlobalBatch,
    ) -> Option<(GlobalBatch, BTreeSet<(usize, usize)>)> {
        let mut drawn = BTreeSet::new();
        let mut first = BTreeMap::new();
        for prediction in batch.predictions().filter(|prediction| prediction.supervised) {
            let place = (prediction.sequence, prediction.position);
            first.entry(prediction.sequence).or_insert(place);
            if self.random.random::<bool>() {
                drawn.insert(place);
            }
        }
        let supervised = |drawn: &BTreeSet<(usize, usize)>| {
            let mut sequences = 0..;
            batch.map_sequences(|sequence| {
                let index = sequences.next().unwrap_or(0);
                sequence.supervise_only(|position| drawn.contains(&(index, position)))
            })
        };
        let mut chosen = supervised(&drawn);
        if TokenWeights::new(spec, &chosen.layout()).is_err() {
            drawn.extend(first.into_values());
            chosen = supervised(&drawn);
        }
        TokenWeights::new(spec, &chosen.layout()).ok()?;
        Some((chosen, drawn))
    }
}

/// Writes runs of these values.
fn written(values: &[f64]) -> impl Fn(Range<usize>, &mut [f64]) + Sync + '_ {
    |run, into| into.copy_from_slice(&values[run])
}

/// A weighted sum of gradients.
#[derive(Default)]
pub(crate) struct Totals(BTreeMap<String, Vec<f64>>);

impl Totals {
    pub(crate) fn add(&mut self, weight: f64, gradient: &TensorSet) {
        for (name, tensor) in gradient {
            let total = self.0.entry(name.clone()).or_insert_with(|| vec![0.0; tensor.elements()]);
            tensor.add_run(weight, 0..total.len(), total);
        }
    }

    /// The sum of one tensor of so many elements; zeros where nothing contributes to it.
    pub(crate) fn of(&self, name: &str, elements: usize) -> Vec<f64> {
        self.0.get(name).cloned().unwrap_or_else(|| vec![0.0; elements])
    }

    /// Whether another sum is the same, up to an error relative to the larger of the two.
    pub(crate) fn is_like(&self, other: &Self, error: f64) -> bool {
        self.0.iter().all(|(name, values)| {
            let others = other.of(name, values.len());
            let apart = difference_in_runs(once(0..values.len()), written(values), written(&others));
            apart.finite && apart.difference <= error * apart.actual.max(apart.expected)
        })
    }

    /// Whether a block of a gradient is this sum, up to an absolute error. A block that nothing contributes
    /// to is.
    fn is(&self, gradient: &TensorSet, block: &Block, error: f64) -> bool {
        let (Some(total), Some(tensor)) = (self.0.get(&block.parameter), gradient.get(&block.parameter))
        else {
            return true;
        };
        let expected = |run: Range<usize>, into: &mut [f64]| tensor.write_run(run, into);
        let apart = difference_in_runs(block.runs(), written(total), expected);
        apart.finite && (block.structurally_zero || apart.difference <= error)
    }
}

/// What the gradients of queries and keys are differences of. Softmax hands `p·(dp − p·dp)` back to the
/// scores: where keys have nearly the same values that cancels within one token, and its rounding is that of
/// `dp`, the gradient that reaches the values. Their block of the parameter is the same sum without the difference.
fn of_keys(block: &Block, blocks: &[Block], norms: &[f64]) -> f64 {
    let of_scores = ["query", "key"].contains(&block.label.as_str());
    let values = |other: &Block| of_scores && other.label == "value" && other.parameter == block.parameter;
    blocks.iter().zip(norms).filter(|(other, _)| values(other)).map(|(_, &norm)| norm).fold(0.0, f64::max)
}
