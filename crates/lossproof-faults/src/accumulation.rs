//! The accumulation loop: how micro-batches and ranks are put together, and what is left over from before.

use crate::{
    Fault, fault,
    honest::{Honest, PassResult, weights},
    tensors::NamedTensors,
    trainer::TrainerParts,
};
use lossproof_spec::{Combine, GlobalBatch, LossSpec, Reduction, Scope};
use lossproof_subject::SubjectError;

const HONEST: TrainerParts = TrainerParts::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "ga-partial-window-underscaled",
        TrainerParts { accumulate: divided_by_the_longest_window, ..HONEST },
    ),
    fault(
        "ga-partial-window-dropped",
        TrainerParts {
            accumulate: |honest, spec, batch| {
                let mut pass = honest.pass(spec, batch)?;
                honest.memory.window = usual(honest, batch);
                if is_short(honest, batch) {
                    pass.gradient.scale(0.0);
                }
                Ok(pass)
            },
            skips: |honest, window, gradient| {
                is_short(honest, window.batch) || (HONEST.skips)(honest, window, gradient)
            },
            ..HONEST
        },
    ),
    fault("window-counter-off-by-one", TrainerParts { accumulate: averaged_by_one_more, ..HONEST }),
    fault("ga-scale-by-sample-ratio", TrainerParts { accumulate: weighted_by_sequences, ..HONEST }),
    fault("zero-grad-wrong-place", TrainerParts { accumulate: only_the_last, ..HONEST }),
    fault("ga-running-average", TrainerParts { accumulate: running_average, ..HONEST }),
    fault("all-reduce-missing", TrainerParts { accumulate: only_rank_zero, ..HONEST }),
    fault("grad-assigned-not-accumulated", TrainerParts { accumulate: layer_norms_assigned, ..HONEST }),
    fault("zero-grad-sparse-rows", TrainerParts { accumulate: stale_where_zero, ..HONEST }),
    fault(
        "zero-grad-missing",
        TrainerParts {
            window: |honest, _, mut pass| {
                pass.gradient.add(1.0, &honest.memory.gradient);
                honest.memory.gradient = pass.gradient.clone();
                Ok(pass)
            },
            ..HONEST
        },
    ),
];

/// The mean of nothing is nobody's business here: without weights the honest pass decides.
pub(crate) fn recombined(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
    combine: impl Fn(&[Vec<PassResult>]) -> NamedTensors,
) -> Result<PassResult, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    if let Some(contributions) = honest.contributions(spec, batch)? {
        pass.gradient = combine(&contributions);
    }
    Ok(pass)
}

/// Loss and gradient with the contribution of every rank multiplied.
fn reweighed(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
    factor: impl Fn(usize) -> f64,
) -> Result<PassResult, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    if let Some(contributions) = honest.contributions(spec, batch)? {
        let rank = |passes: &Vec<PassResult>| PassResult::sum(passes).scaled(factor(passes.len()));
        let sum = PassResult::sum(&contributions.iter().map(rank).collect::<Vec<_>>());
        (pass.observation.loss, pass.gradient) = (sum.observation.loss, sum.gradient);
    }
    Ok(pass)
}

/// Micro-batches of the longest window so far, this one included.
fn usual(honest: &Honest, batch: &GlobalBatch) -> usize {
    batch.longest_window().max(honest.memory.window)
}

/// Whether a window is shorter than usual.
fn is_short(honest: &Honest, batch: &GlobalBatch) -> bool {
    batch.longest_window() < honest.memory.window
}

fn divided_by_the_longest_window(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let usual = usual(honest, batch);
    honest.memory.window = usual;
    match spec.micro_batches {
        Combine::Average => reweighed(honest, spec, batch, |count| count as f64 / usual as f64),
        Combine::Add => honest.pass(spec, batch),
    }
}

fn averaged_by_one_more(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    match spec.micro_batches {
        Combine::Average => reweighed(honest, spec, batch, |count| count as f64 / (count + 1) as f64),
        Combine::Add => honest.pass(spec, batch),
    }
}

fn weighted_by_sequences(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    if spec.reduction != Reduction::TokenMean || spec.scope != Scope::Global {
        return honest.pass(spec, batch);
    }
    let own = LossSpec { scope: Scope::MicroBatch, ..*spec };
    let Some(mut weights) = weights(&own, batch) else { return honest.pass(spec, batch) };
    let all = batch.sequences().count() as f64;
    let mut rest = weights.as_mut_slice();
    for micro_batch in batch.micro_batches() {
        let sequences = micro_batch.sequences();
        let (own, others) = rest.split_at_mut(sequences.iter().map(|s| s.len() - 1).sum());
        for weight in own {
            *weight *= sequences.len() as f64 / all;
        }
        rest = others;
    }
    honest.weighted(spec, batch, &weights)
}

fn only_the_last(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    recombined(honest, spec, batch, |ranks| {
        PassResult::sum(ranks.iter().filter_map(|rank| rank.last())).gradient
    })
}

fn running_average(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    recombined(honest, spec, batch, |ranks| {
        let window = |rank: &Vec<PassResult>| {
            let averaged =
                |so_far: PassResult, next: &PassResult| PassResult::sum([&so_far, next]).scaled(0.5);
            rank.iter().cloned().reduce(|so_far, next| averaged(so_far, &next))
        };
        PassResult::sum(&ranks.iter().filter_map(window).collect::<Vec<_>>()).gradient
    })
}

fn only_rank_zero(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    recombined(honest, spec, batch, |ranks| PassResult::sum(ranks.iter().take(1).flatten()).gradient)
}

fn layer_norms_assigned(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    recombined(honest, spec, batch, |ranks| {
        let mut gradient = PassResult::sum(ranks.iter().flatten()).gradient;
        let last = PassResult::sum(ranks.iter().filter_map(|rank| rank.last())).gradient;
        gradient.take_from(&last, |name| name.contains("ln_"));
        gradient
    })
}

fn stale_where_zero(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    for (name, values) in pass.gradient.iter_mut() {
        for (value, &before) in values.iter_mut().zip(honest.memory.gradient.of(name)) {
            if value.abs() <= 0.0 {
                *value = before;
            }
        }
    }
    honest.memory.gradient = pass.gradient.clone();
    Ok(pass)
}
