//! The accumulation loop: how micro-batches and ranks are put together, and what is left over from before.

use crate::{
    Family, Fault,
    honest::{Honest, Pass, weights},
    tensors::Tensors,
    trainer::Trainer,
};
use lossproof_spec::{Combine, GlobalBatch, LossSpec, Reduction, Scope};
use lossproof_subject::SubjectError;

const HONEST: Trainer = Trainer::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        id: "ga-partial-window-underscaled",
        family: Family::Accumulation,
        what: "a window that is shorter than usual is divided by the usual number of micro-batches",
        source: Some(
            "huggingface/transformers#38872, Lightning-AI/pytorch-lightning#19987, modelscope/ms-swift#10084",
        ),
        clauses: &["4.4"],
        trainer: Trainer { accumulate: divided_by_the_longest_window, ..HONEST },
    },
    Fault {
        id: "ga-partial-window-dropped",
        family: Family::Accumulation,
        what: "a window that is shorter than usual goes through backward and never reaches the update",
        source: Some("tracel-ai/burn#5695, NVIDIA-NeMo/Automodel#2257"),
        clauses: &["4.1", "4.4"],
        trainer: Trainer {
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
    },
    Fault {
        id: "window-counter-off-by-one",
        family: Family::Accumulation,
        what: "the micro-batches are averaged by a counter that is one ahead",
        source: None,
        clauses: &["2.5", "4.3", "4.6"],
        trainer: Trainer { accumulate: averaged_by_one_more, ..HONEST },
    },
    Fault {
        id: "ga-scale-by-sample-ratio",
        family: Family::Accumulation,
        what: "a micro-batch's mean over tokens is weighted by its share of the sequences",
        source: Some("verl-project/verl#5641"),
        clauses: &["2.2", "4.1"],
        trainer: Trainer { accumulate: weighted_by_sequences, ..HONEST },
    },
    Fault {
        id: "zero-grad-wrong-place",
        family: Family::Accumulation,
        what: "gradients are cleared for every micro-batch, and only the last of the window counts",
        source: Some(
            "pytorch/torchtitan#3575, tatsu-lab/alpaca_farm#57, bytetriper/RAE#67, ultralytics/ultralytics#11217",
        ),
        clauses: &["2.2", "4.1", "4.2"],
        trainer: Trainer { accumulate: only_the_last, ..HONEST },
    },
    Fault {
        id: "ga-running-average",
        family: Family::Accumulation,
        what: "each new micro-batch is averaged with what was accumulated so far, so the first weigh least",
        source: None,
        clauses: &["4.2"],
        trainer: Trainer { accumulate: running_average, ..HONEST },
    },
    Fault {
        id: "all-reduce-missing",
        family: Family::Accumulation,
        what: "the gradients of ranks are not reduced: rank 0 steps with its own",
        source: None,
        clauses: &["5.2", "5.3", "5.4"],
        trainer: Trainer { accumulate: only_rank_zero, ..HONEST },
    },
    Fault {
        id: "grad-assigned-not-accumulated",
        family: Family::Backward,
        what: "the layer norm's kernel stores its gradient where others add, and keeps that of the last micro-batch",
        source: Some("karpathy/llm.c#408, huggingface/candle#3507"),
        clauses: &["2.1", "2.2", "4.1", "4.2"],
        trainer: Trainer { accumulate: layer_norms_assigned, ..HONEST },
    },
    Fault {
        id: "zero-grad-sparse-rows",
        family: Family::Accumulation,
        what: "only what is written again is cleared: an element without a gradient keeps that of the step before",
        source: Some("paiml/entrenar#257, karpathy/llm.c#548"),
        clauses: &["4.5"],
        trainer: Trainer { accumulate: stale_where_zero, ..HONEST },
    },
    Fault {
        id: "zero-grad-missing",
        family: Family::Optimizer,
        what: "gradients are never cleared, and each step uses the sum of all before it",
        source: Some("meta-pytorch/torchforge#71, tenstorrent/tt-blacksmith#711"),
        clauses: &["7.2", "7.3", "7.6"],
        trainer: Trainer {
            window: |honest, _, mut pass| {
                pass.gradient.add(1.0, &honest.memory.gradient);
                honest.memory.gradient = pass.gradient.clone();
                Ok(pass)
            },
            ..HONEST
        },
    },
];

/// The mean of nothing is nobody's business here: without weights the honest pass decides.
fn recombined(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
    combine: impl Fn(&[Vec<Pass>]) -> Tensors,
) -> Result<Pass, SubjectError> {
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
) -> Result<Pass, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    if let Some(contributions) = honest.contributions(spec, batch)? {
        let rank = |passes: &Vec<Pass>| Pass::sum(passes).scaled(factor(passes.len()));
        let sum = Pass::sum(&contributions.iter().map(rank).collect::<Vec<_>>());
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
) -> Result<Pass, SubjectError> {
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
) -> Result<Pass, SubjectError> {
    match spec.micro_batches {
        Combine::Average => reweighed(honest, spec, batch, |count| count as f64 / (count + 1) as f64),
        Combine::Add => honest.pass(spec, batch),
    }
}

fn weighted_by_sequences(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<Pass, SubjectError> {
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

fn only_the_last(honest: &mut Honest, spec: &LossSpec, batch: &GlobalBatch) -> Result<Pass, SubjectError> {
    recombined(honest, spec, batch, |ranks| Pass::sum(ranks.iter().filter_map(|rank| rank.last())).gradient)
}

fn running_average(honest: &mut Honest, spec: &LossSpec, batch: &GlobalBatch) -> Result<Pass, SubjectError> {
    recombined(honest, spec, batch, |ranks| {
        let window = |rank: &Vec<Pass>| {
            let averaged = |so_far: Pass, next: &Pass| Pass::sum([&so_far, next]).scaled(0.5);
            rank.iter().cloned().reduce(|so_far, next| averaged(so_far, &next))
        };
        Pass::sum(&ranks.iter().filter_map(window).collect::<Vec<_>>()).gradient
    })
}

fn only_rank_zero(honest: &mut Honest, spec: &LossSpec, batch: &GlobalBatch) -> Result<Pass, SubjectError> {
    recombined(honest, spec, batch, |ranks| Pass::sum(ranks.iter().take(1).flatten()).gradient)
}

fn layer_norms_assigned(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<Pass, SubjectError> {
    recombined(honest, spec, batch, |ranks| {
        let mut gradient = Pass::sum(ranks.iter().flatten()).gradient;
        let last = Pass::sum(ranks.iter().filter_map(|rank| rank.last())).gradient;
        for (name, values) in gradient.iter_mut().filter(|(name, _)| name.contains("ln_")) {
            values.copy_from_slice(last.of(name));
        }
        gradient
    })
}

fn stale_where_zero(honest: &mut Honest, spec: &LossSpec, batch: &GlobalBatch) -> Result<Pass, SubjectError> {
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
