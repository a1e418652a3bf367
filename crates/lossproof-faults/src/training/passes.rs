//! What a backward pass adds to the gradient, and in which mode a model is.

use super::{
    LAWFUL, TrainingFault,
    between::{Between, TrainerHooks},
    fault,
};
use lossproof_loop::LoopParts;
use lossproof_spec::LossSpec;
use lossproof_subject::{Dropout, Sample, SamplePlace, TrainingBatch};

const IDENTITY: TrainerHooks = TrainerHooks::IDENTITY;

/// A fault in what is asked of the trainer.
macro_rules! between {
    ($id:literal, $hooks:expr) => {{
        const HOOKS: TrainerHooks = $hooks;
        fault(
            $id,
            LoopParts {
                around: Some(|inner, settings| Box::new(Between::new(inner, settings, HOOKS))),
                ..LAWFUL
            },
        )
    }};
}
pub(super) use between;

pub(super) const FAULTS: &[TrainingFault] = &[
    between!(
        "divided-by-k-twice",
        TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                let again = own.settings.accumulate as f64;
                let mut seen = own.inner.backward(batch, loss, factor / again, dropout)?;
                seen.loss /= again;
                Ok(seen)
            },
            ..IDENTITY
        }
    ),
    between!(
        "smoother-ignores-count",
        TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                if loss.label_smoothing <= 0.0 {
                    return own.inner.backward(batch, loss, factor, dropout);
                }
                let tokens = batch.supervised().max(1) as f64;
                let mut seen = own.inner.backward(batch, loss, 1.0 / tokens, dropout)?;
                seen.loss /= tokens * factor;
                Ok(seen)
            },
            ..IDENTITY
        }
    ),
    between!(
        "gradient-sum-loss-mean",
        TrainerHooks {
            backward: |own, batch, loss, _, dropout| own.inner.backward(batch, loss, 1.0, dropout),
            ..IDENTITY
        }
    ),
    between!(
        "ranks-added-silently",
        TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                own.inner.backward(batch, loss, factor * own.settings.ranks as f64, dropout)
            },
            ..IDENTITY
        }
    ),
    between!(
        "first-row-only",
        TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                let first = Sample {
                    sequence: batch.micro_batch().sequences()[0].clone(),
                    place: batch.places()[0],
                    prefix: batch.prefixes()[0],
                };
                match TrainingBatch::new([first]) {
                    Ok(first) => own.inner.backward(&first, loss, factor, dropout),
                    Err(_) => own.inner.backward(batch, loss, factor, dropout),
                }
            },
            ..IDENTITY
        }
    ),
    between!(
        "train-mode-not-restored",
        TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                let dropout = if own.validated { Dropout::NONE } else { *dropout };
                own.inner.backward(batch, loss, factor, &dropout)
            },
            ..IDENTITY
        }
    ),
    between!(
        "validation-with-dropout",
        TrainerHooks {
            losses: |own, batch| {
                let seen = own.inner.backward(batch, &LossSpec::sum(), 0.0, &own.dropout.clone())?;
                Ok(seen.token_losses.unwrap_or_default())
            },
            ..IDENTITY
        }
    ),
    between!(
        "validation-smoothed",
        TrainerHooks {
            losses: |own, batch| {
                let smoothing = own.settings.label_smoothing;
                let smoothed = LossSpec { label_smoothing: smoothing, ..LossSpec::sum() };
                let seen = own.inner.backward(batch, &smoothed, 0.0, &Dropout::NONE)?;
                Ok(seen.token_losses.unwrap_or_default())
            },
            ..IDENTITY
        }
    ),
    between!(
        "validation-gradient-kept",
        TrainerHooks {
            losses: |own, batch| {
                let factor = 1.0 / batch.supervised().max(1) as f64;
                own.inner.backward(batch, &LossSpec::sum(), factor, &Dropout::NONE)?;
                own.inner.supervised_losses(batch)
            },
            ..IDENTITY
        }
    ),
    between!(
        "masks-not-of-the-sample",
        TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                // As from one generator that every pass draws from.
                let passes = own.updates << 8 | own.passes as u64;
                let dropout = Dropout { seed: dropout.seed ^ passes << 20, ..*dropout };
                own.inner.backward(batch, loss, factor, &dropout)
            },
            ..IDENTITY
        }
    ),
    between!(
        "nan-left-out-of-update-loss",
        TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                let mut seen = own.inner.backward(batch, loss, factor, dropout)?;
                if own.finite && !seen.loss.is_finite() {
                    seen.loss = 0.0;
                }
                Ok(seen)
            },
            ..IDENTITY
        }
    ),
    between!(
        "dropout-not-rescaled",
        TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                own.inner.backward(batch, loss, factor, &Dropout { unscaled: true, ..*dropout })
            },
            ..IDENTITY
        }
    ),
    between!(
        "dropout-of-one-epoch",
        TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                let rows = batch.micro_batch().sequences().iter().zip(batch.places()).zip(batch.prefixes());
                let first = rows.map(|((sequence, place), &prefix)| Sample {
                    sequence: sequence.clone(),
                    place: SamplePlace { epoch: 0, ..*place },
                    prefix,
                });
                match TrainingBatch::new(first) {
                    Ok(first) => own.inner.backward(&first, loss, factor, dropout),
                    Err(_) => own.inner.backward(batch, loss, factor, dropout),
                }
            },
            ..IDENTITY
        }
    ),
    between!(
        "dropout-of-one-seed",
        TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                own.inner.backward(batch, loss, factor, &Dropout { seed: 0, ..*dropout })
            },
            ..IDENTITY
        }
    ),
];
