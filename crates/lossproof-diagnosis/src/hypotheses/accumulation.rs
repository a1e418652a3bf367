//! The accumulation loop: what a micro-batch weighs by where it stands.

use super::{HONEST, Hypothesis, hypothesis, weighs};
use crate::{
    call::{Term, TrainerCall, honest_terms, term, weights},
    reported_loss::ReportedLoss,
    trainer_model::{BackwardEffect, TrainerModel},
};
use lossproof_spec::{Combine, GlobalBatch, LossSpec, MicroBatch, Rank, Reduction, Scope};

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    weighs("ga-scale-by-sample-ratio", |call| {
        if call.spec.reduction != Reduction::TokenMean || call.spec.scope != Scope::Global {
            return honest_terms(call);
        }
        let own = LossSpec { scope: Scope::MicroBatch, ..*call.spec };
        let all = call.batch.sequences().count() as f64;
        reweighed(call, &own, |place| place.sequences as f64 / all)
    }),
    hypothesis(
        "zero-grad-wrong-place",
        TrainerModel { gradient: last_of_window, reports: ReportedLoss::Right, ..HONEST },
    ),
    hypothesis(
        "ga-running-average",
        TrainerModel {
            gradient: |call| {
                reweighed(call, call.spec, |place| {
                    // The first is halved by each that follows; any other by its own averaging too.
                    let halvings =
                        if place.index == 1 { place.window - 1 } else { place.window - place.index + 1 };
                    0.5_f64.powi(i32::try_from(halvings).unwrap_or(i32::MAX))
                })
            },
            reports: ReportedLoss::Right,
            ..HONEST
        },
    ),
    hypothesis(
        "all-reduce-missing",
        TrainerModel {
            gradient: |call| reweighed(call, call.spec, |place| f64::from(u8::from(place.rank == 0))),
            reports: ReportedLoss::Right,
            ..HONEST
        },
    ),
    weighs("ga-partial-window-underscaled", |call| {
        if call.spec.micro_batches == Combine::Add { honest_terms(call) } else { underscaled(call) }
    }),
    weighs("window-counter-off-by-one", |call| {
        if call.spec.micro_batches == Combine::Add {
            return honest_terms(call);
        }
        counted_once_too_often(call)
    }),
    hypothesis(
        "grad-assigned-not-accumulated",
        TrainerModel {
            backward: BackwardEffect::Weighed(|role| role.is_gain() || role.is_norm_bias(), last_of_window),
            ..HONEST
        },
    ),
];

/// Every window is divided by the micro-batches of the longest one so far.
pub(super) fn underscaled(call: &TrainerCall<'_>) -> Option<Vec<Term>> {
    let windows = call.before.iter().chain([call.batch]).map(GlobalBatch::longest_window);
    let usual = windows.max().unwrap_or(1);
    reweighed(call, call.spec, |place| place.window as f64 / usual as f64)
}

/// Every window is divided by one micro-batch more than it has.
pub(super) fn counted_once_too_often(call: &TrainerCall<'_>) -> Option<Vec<Term>> {
    reweighed(call, call.spec, |place| place.window as f64 / (place.window + 1) as f64)
}

/// Only the last micro-batch of each window counts.
fn last_of_window(call: &TrainerCall<'_>) -> Option<Vec<Term>> {
    reweighed(call, call.spec, |place| f64::from(u8::from(place.index == place.window)))
}

/// Where a micro-batch stands.
struct MicroBatchPlace {
    rank: usize,
    /// Its number in the window of its rank, from 1.
    index: usize,
    /// Micro-batches of that window.
    window: usize,
    /// Its sequences.
    sequences: usize,
}

/// The weights of a spec, those of each micro-batch multiplied.
fn reweighed(
    call: &TrainerCall<'_>,
    spec: &LossSpec,
    factor: impl Fn(&MicroBatchPlace) -> f64,
) -> Option<Vec<Term>> {
    let mut weights = weights(spec, call)?;
    if call.upstream.is_none() {
        let mut rest = weights.as_mut_slice();
        for (rank, micro_batches) in call.batch.ranks().iter().map(Rank::micro_batches).enumerate() {
            for (index, micro_batch) in micro_batches.iter().enumerate() {
                let (window, sequences) = (micro_batches.len(), micro_batch.sequences().len());
                let factor = factor(&MicroBatchPlace { rank, index: index + 1, window, sequences });
                let (own, others) = rest.split_at_mut(predictions(micro_batch));
                for weight in own {
                    *weight *= factor;
                }
                rest = others;
            }
        }
    }
    Some(vec![term(call, spec, weights)])
}

fn predictions(micro_batch: &MicroBatch) -> usize {
    micro_batch.sequences().iter().map(|sequence| sequence.len() - 1).sum()
}
