//! The loss kernel: what it makes of one row of logits, and of the rows that are left over.

use super::Unseen;
use crate::{
    honest::{Honest, PassResult, weights},
    model::{
        Operators, Real,
        operators::{Target, cross_entropy, softmax},
        real,
    },
    operators::with,
    trainer::TrainerParts,
};
use lossproof_spec::{GlobalBatch, LossSpec, Sequence};
use lossproof_subject::SubjectError;

const HONEST: TrainerParts = TrainerParts::HONEST;

/// Predictions in a chunk of the loss.
const CHUNK: usize = 4;

pub(super) const BUGS: &[Unseen] = &[
    Unseen {
        id: "loss-chunk-tail-lost",
        what: "the loss is computed in chunks, and what is left of a sequence after the last is not scored",
        source: None,
        trainer: TrainerParts { accumulate: full_chunks_only, ..HONEST },
    },
    Unseen {
        id: "token-loss-capped",
        what: "a token loss above a threshold is taken for an outlier: it is cut off and has no gradient",
        source: None,
        trainer: with!(outliers_capped),
    },
    Unseen {
        id: "smoothing-mass-complementary",
        what: "label smoothing gives each class (1 − ε)/V in the loss, and ε/V in the gradient",
        source: Some("https://github.com/paiml/aprender/pull/2199"),
        trainer: with!(complementary_mass),
    },
];

fn full_chunks_only(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let Some(mut weights) = weights(spec, batch) else { return honest.pass(spec, batch) };
    let lengths: Vec<usize> = batch.sequences().map(Sequence::len).collect();
    for (prediction, weight) in batch.predictions().zip(&mut weights) {
        let predictions = lengths[prediction.sequence] - 1;
        // What does not fill one chunk goes through the path without chunks.
        if predictions > CHUNK && prediction.position >= predictions - predictions % CHUNK {
            *weight = 0.0;
        }
    }
    honest.weighted(spec, batch, &weights)
}

/// The threshold is one nat above what a model without knowledge has.
fn outliers_capped<T: Real>() -> Operators<T> {
    Operators {
        cross_entropy: |logits, target| {
            let (loss, mut gradient) = cross_entropy(logits, target);
            let threshold = real::<T>((logits.len() as f64).ln() + 1.0);
            if loss <= threshold {
                return (loss, gradient);
            }
            gradient.fill(T::zero());
            (threshold, gradient)
        },
        ..Operators::honest()
    }
}

fn complementary_mass<T: Real>() -> Operators<T> {
    fn complementary<T: Real>(logits: &[T], target: &Target) -> (T, Vec<T>) {
        let (loss, gradient) = cross_entropy(logits, target);
        if target.label_smoothing <= 0.0 {
            return (loss, gradient);
        }
        let (max, total, _) = softmax(logits);
        let mean = logits.iter().map(|&z| z - max).sum::<T>() / real(logits.len() as f64);
        // The uniform part has the factor ε already.
        let missing = real::<T>(1.0 - 2.0 * target.label_smoothing);
        (loss + missing * (total.ln() - mean), gradient)
    }
    Operators { cross_entropy: complementary, ..Operators::honest() }
}
