//! What is printed of a step and of a validation.

use super::Unseen;
use crate::{
    honest::{Honest, PassResult},
    trainer::TrainerParts,
};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Sequence};
use lossproof_subject::{Evaluated, SubjectError};

const HONEST: TrainerParts = TrainerParts::HONEST;

pub(super) const BUGS: &[Unseen] = &[
    Unseen {
        id: "logged-loss-of-one-micro-batch",
        what: "the loss that is logged is that of the last micro-batch on rank 0",
        source: Some("https://github.com/karpathy/nanochat/pull/515"),
        trainer: TrainerParts { accumulate: last_loss_logged, ..HONEST },
    },
    Unseen {
        id: "validation-drops-last-batch",
        what: "a validation drops its last batch where that is smaller than the others",
        source: Some("https://github.com/verl-project/verl/issues/78"),
        trainer: TrainerParts { validate: |honest, batches| honest.validate(full(batches)), ..HONEST },
    },
    Unseen {
        id: "logged-loss-smoothed",
        what: "what is logged as a window's loss is an exponential average over the windows so far",
        source: None,
        trainer: TrainerParts { accumulate: smoothed_loss_logged, ..HONEST },
    },
    Unseen {
        id: "validation-divides-by-positions",
        what: "a validation divides by the positions of its rectangles, ignored and padded ones included",
        source: None,
        trainer: TrainerParts { validate: divided_by_positions, ..HONEST },
    },
];

fn last_loss_logged(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    if let Some(last) = batch.ranks().first().and_then(|rank| rank.micro_batches().last()) {
        let last = GlobalBatch::of_micro_batch(last.clone());
        // A micro-batch without a label logs what an unset loss is.
        let loss =
            if last.layout().supervised() > 0 { honest.pass(spec, &last)?.observation.loss } else { 0.0 };
        pass.observation.loss = loss;
    }
    Ok(pass)
}

/// The batches without the last, where that is smaller than the first.
fn full(batches: &[MicroBatch]) -> &[MicroBatch] {
    match batches {
        [first, .., last] if last.sequences().len() < first.sequences().len() => {
            &batches[..batches.len() - 1]
        }
        _ => batches,
    }
}

fn smoothed_loss_logged(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    let own = pass.observation.loss;
    pass.observation.loss = honest.memory.logged.map_or(own, |before| 0.9 * before + 0.1 * own);
    honest.memory.logged = Some(pass.observation.loss);
    Ok(pass)
}

fn divided_by_positions(honest: &mut Honest, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
    let printed = honest.validate(batches)?;
    let width = |batch: &MicroBatch| batch.sequences().iter().map(Sequence::len).max().unwrap_or(1);
    let positions: usize = batches.iter().map(|batch| batch.sequences().len() * (width(batch) - 1)).sum();
    let sum = if printed.tokens > 0 { printed.loss * printed.tokens as f64 } else { 0.0 };
    let loss = sum / positions as f64;
    Ok(Evaluated { loss, perplexity: loss.exp(), ..printed })
}
