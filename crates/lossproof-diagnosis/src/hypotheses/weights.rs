//! Weights: which loss spec is computed where another was asked for, and what is weighed beside it.

use super::{HONEST, Hypothesis, hypothesis, weighs};
use crate::{
    call::{Term, TrainerCall, honest_terms, term, under, weights},
    reported_loss::ReportedLoss,
    trainer_model::TrainerModel,
};
use lossproof_cases::edit::supervised_everywhere;
use lossproof_spec::{Combine, Counting, EmptyPolicy, LossSpec, Reduction, Scope};

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    weighs("ga-mean-of-means", |call| {
        let micro_batches = Combine::Average;
        let own = LossSpec { scope: Scope::MicroBatch, micro_batches, ranks: Combine::Average, ..*call.spec };
        under(if is_global_token_mean(call) { &own } else { call.spec }, call)
    }),
    weighs("ga-missing-division-k-times", |call| {
        under(&LossSpec { micro_batches: Combine::Add, ..*call.spec }, call)
    }),
    weighs("ga-means-added", |call| {
        let own = LossSpec { scope: Scope::MicroBatch, ..*call.spec };
        under(if is_global_token_mean(call) { &own } else { call.spec }, call)
    }),
    weighs("ga-normalised-twice", |call| {
        let mut terms = honest_terms(call)?;
        let mean = matches!(call.spec.reduction, Reduction::TokenMean | Reduction::SequenceMean);
        if mean && call.upstream.is_none() {
            let tokens = call.batch.layout().supervised().max(1) as f64;
            terms.iter_mut().flat_map(|term| &mut term.weights).for_each(|weight| *weight /= tokens);
        }
        Some(terms)
    }),
    weighs("reduction-mode-ignored", |call| {
        under(&LossSpec { reduction: Reduction::TokenMean, ..*call.spec }, call)
    }),
    weighs("token-mean-not-divided", |call| {
        let sum = LossSpec { reduction: Reduction::Sum, ..*call.spec };
        under(if call.spec.reduction == Reduction::TokenMean { &sum } else { call.spec }, call)
    }),
    weighs("batch-mean-of-a-micro-batch", |call| {
        let own = LossSpec { scope: Scope::MicroBatch, ..*call.spec };
        under(if call.spec.reduction == Reduction::BatchMean { &own } else { call.spec }, call)
    }),
    weighs("rank-local-token-mean", |call| {
        let own = LossSpec { scope: Scope::RankWindow, ranks: Combine::Average, ..*call.spec };
        under(if is_global_token_mean(call) { &own } else { call.spec }, call)
    }),
    weighs("dp-average-not-undone", |call| {
        let averaged = LossSpec { ranks: Combine::Average, ..*call.spec };
        under(if call.spec.scope == Scope::Global { &averaged } else { call.spec }, call)
    }),
    weighs("dp-average-dropped", |call| under(&LossSpec { ranks: Combine::Add, ..*call.spec }, call)),
    weighs("counted-before-shift", |call| {
        under(&LossSpec { counting: Counting::BeforeShift, ..*call.spec }, call)
    }),
    weighs("pad-in-denominator", |call| {
        under(&LossSpec { counting: Counting::AllPositions, ..*call.spec }, call)
    }),
    weighs("all-ignored-nan", |call| under(&LossSpec { empty: EmptyPolicy::Nan, ..*call.spec }, call)),
    weighs("empty-groups-skipped", |call| {
        let empty = match call.spec.empty {
            EmptyPolicy::ZeroCounted => EmptyPolicy::ZeroSkipped,
            EmptyPolicy::ZeroSkipped => EmptyPolicy::ZeroCounted,
            other => other,
        };
        under(&LossSpec { empty, ..*call.spec }, call)
    }),
    hypothesis(
        "log-loss-misscaled-under-ga",
        TrainerModel {
            reports: ReportedLoss::Sum(|call| {
                let LossSpec { label_smoothing, z_loss, .. } = *call.spec;
                let empty = EmptyPolicy::ZeroCounted;
                let naive = LossSpec::naive_accumulated_mean();
                under(&LossSpec { empty, label_smoothing, z_loss, ..naive }, call)
            }),
            ..HONEST
        },
    ),
    weighs("smoothing-counts-ignored", |call| {
        let mut terms = honest_terms(call)?;
        let (epsilon, weights) = (call.spec.label_smoothing, weights(call.spec, call)?);
        if epsilon > 0.0 {
            let largest = weights.iter().copied().fold(0.0, f64::max);
            let all = supervised_everywhere(call.batch);
            let labels = all.predictions().zip(call.batch.predictions());
            let ignored =
                labels.map(|(all, own)| if all.supervised && !own.supervised { largest } else { 0.0 });
            let ignored: Vec<f64> = ignored.collect();
            // The uniform part alone: the smoothed loss less 1 − ε of the plain one.
            let part = |label_smoothing: f64, factor: f64| Term {
                batch: all.clone(),
                weights: ignored.iter().map(|weight| factor * weight).collect(),
                label_smoothing,
                z_loss: 0.0,
            };
            terms.extend([part(epsilon, 1.0), part(0.0, epsilon - 1.0)]);
        }
        Some(terms)
    }),
    weighs("z-loss-not-weighed", |call| {
        let mut terms = honest_terms(call)?;
        if call.spec.z_loss > 0.0 {
            let weights = weights(call.spec, call)?;
            let missing: Vec<f64> = weights.iter().map(|w| if *w > 0.0 { 1.0 - w } else { 0.0 }).collect();
            let opposite = missing.iter().map(|w| -w).collect();
            let plain = LossSpec { z_loss: 0.0, label_smoothing: 0.0, ..*call.spec };
            let with = LossSpec { label_smoothing: 0.0, ..*call.spec };
            terms.extend([term(call, &with, missing), term(call, &plain, opposite)]);
        }
        Some(terms)
    }),
    weighs("ce-upstream-grad-mean", |call| {
        from_above(call, |weights| weights.iter().sum::<f64>() / weights.len().max(1) as f64)
    }),
    weighs("ce-upstream-grad-scalar", |call| {
        from_above(call, |weights| weights.first().copied().unwrap_or(0.0))
    }),
];

/// Whether a mean over the tokens of the whole batch is asked for: of one rank's window, where there is one rank.
pub(super) fn is_global_token_mean(call: &TrainerCall<'_>) -> bool {
    let whole = match call.spec.scope {
        Scope::Global => true,
        Scope::RankWindow => call.limits.ranks.most == 1,
        Scope::MicroBatch => false,
    };
    call.spec.reduction == Reduction::TokenMean && whole
}

/// Weights from above that are all the same.
fn from_above(call: &TrainerCall<'_>, all: impl Fn(&[f64]) -> f64) -> Option<Vec<Term>> {
    let Some(upstream) = call.upstream else { return honest_terms(call) };
    let weights = vec![all(upstream); upstream.len()];
    honest_terms(&TrainerCall { upstream: Some(&weights), ..*call })
}
