//! What a loop logs.

use super::{LAWFUL, TrainingFault, fault};
use lossproof_loop::{
    LoopParts, Semantics,
    semantics::{EvaluationMean, IdleUpdate, Tracking},
};
use lossproof_subject::TrainingEvent;

pub(super) const FAULTS: &[TrainingFault] = &[
    fault(
        "eval-fillups-in-means",
        LoopParts {
            semantics: Semantics { evaluation: EvaluationMean::GatheredRepeats, ..LAWFUL.semantics },
            ..LAWFUL
        },
    ),
    fault(
        "epoch-loss-of-first-rank",
        LoopParts {
            semantics: Semantics { tracking: Tracking::SamplesOfFirstRank, ..LAWFUL.semantics },
            ..LAWFUL
        },
    ),
    fault(
        "epoch-loss-over-micro-batches",
        LoopParts {
            semantics: Semantics { tracking: Tracking::MeansOverWholeEpoch, ..LAWFUL.semantics },
            ..LAWFUL
        },
    ),
    fault(
        "nan-hidden-in-log",
        LoopParts {
            trace: |_, mut trace| {
                let mut last = 0.0;
                for event in &mut trace.events {
                    let TrainingEvent::Update(update) = event else { continue };
                    if let Some(loss) = &mut update.loss {
                        if loss.is_finite() {
                            last = *loss;
                        } else {
                            *loss = last;
                        }
                    }
                }
                trace
            },
            ..LAWFUL
        },
    ),
    fault(
        "nan-left-out-of-epoch-loss",
        LoopParts {
            // Where such updates are skipped, they may be left out.
            semantics: Semantics { idle: IdleUpdate::Made, ..LAWFUL.semantics },
            trace: |_, mut trace| {
                for event in &mut trace.events {
                    if let TrainingEvent::EpochEnd(Some(loss)) = event
                        && !loss.is_finite()
                    {
                        *loss = 0.0;
                    }
                }
                trace
            },
            ..LAWFUL
        },
    ),
    fault(
        "norm-logged-after-clipping",
        LoopParts {
            trace: |plan, mut trace| {
                for event in &mut trace.events {
                    let TrainingEvent::Update(update) = event else { continue };
                    if let (Some(norm), Some(clip)) = (&mut update.grad_norm, plan.clip) {
                        *norm *= clip.factor(*norm);
                    }
                }
                trace
            },
            ..LAWFUL
        },
    ),
    fault(
        "loss-of-the-window-before",
        LoopParts {
            trace: |_, mut trace| {
                let mut last = None;
                for event in &mut trace.events {
                    let TrainingEvent::Update(update) = event else { continue };
                    let own = update.loss;
                    if let Some(last) = last {
                        update.loss = last;
                    }
                    last = Some(own);
                }
                trace
            },
            ..LAWFUL
        },
    ),
];
