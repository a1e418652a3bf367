//! What is printed of a step and of a validation.

use super::Unseen;
use crate::{
    honest::{Honest, PassResult},
    trainer::TrainerParts,
};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch};
use lossproof_subject::SubjectError;

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
