//! The step: loss scale, clipping, schedule, update.

use super::{HONEST, Hypothesis, hypothesis};
use crate::{
    call::honest_terms, reported_loss::ReportedLoss, simulated_optimizer::StepMistake,
    trainer_model::TrainerModel,
};
use lossproof_spec::GlobalBatch;

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis("clip-per-microbatch", TrainerModel { step: StepMistake::ClippedPerMicroBatch, ..HONEST }),
    hypothesis(
        "clip-compares-squared-norm",
        TrainerModel { step: StepMistake::SquaredNormCompared, ..HONEST },
    ),
    hypothesis("clip-per-tensor", TrainerModel { step: StepMistake::ClippedPerTensor, ..HONEST }),
    hypothesis("clip-before-unscale", TrainerModel { step: StepMistake::ClippedBeforeUnscale, ..HONEST }),
    hypothesis("grad-norm-after-clipping", TrainerModel { step: StepMistake::NormAfterClipping, ..HONEST }),
    hypothesis("loss-scale-not-undone", TrainerModel { step: StepMistake::ScaleNotUndone, ..HONEST }),
    hypothesis("overflow-not-skipped", TrainerModel { step: StepMistake::OverflowNotSkipped, ..HONEST }),
    hypothesis(
        "overflow-advances-schedule",
        TrainerModel { step: StepMistake::OverflowAdvancesSchedule, ..HONEST },
    ),
    hypothesis(
        "lr-schedule-per-microbatch",
        TrainerModel { step: StepMistake::SchedulePerMicroBatch, ..HONEST },
    ),
    hypothesis("momentum-dampened-first", TrainerModel { step: StepMistake::MomentumDampened, ..HONEST }),
    hypothesis("weight-decay-grows", TrainerModel { step: StepMistake::DecayGrows, ..HONEST }),
    hypothesis("adam-step-starts-at-zero", TrainerModel { step: StepMistake::AdamStartsAtZero, ..HONEST }),
    hypothesis("adam-without-bias-correction", TrainerModel { step: StepMistake::AdamUncorrected, ..HONEST }),
    hypothesis("adam-epsilon-inside-root", TrainerModel { step: StepMistake::EpsilonInsideRoot, ..HONEST }),
    hypothesis("adamw-decay-coupled", TrainerModel { step: StepMistake::DecayCoupled, ..HONEST }),
    hypothesis("weight-decay-on-norms", TrainerModel { step: StepMistake::EverythingDecays, ..HONEST }),
    hypothesis("zero-grad-missing", TrainerModel { step: StepMistake::NeverCleared, ..HONEST }),
    hypothesis(
        "ga-partial-window-dropped",
        TrainerModel {
            // Whoever looks at the gradient sees none.
            gradient: |call| {
                let usual = call.before.iter().map(GlobalBatch::longest_window).max();
                let mut terms = honest_terms(call)?;
                if call.upstream.is_none() && Some(call.batch.longest_window()) < usual {
                    for term in &mut terms {
                        term.weights.fill(0.0);
                    }
                }
                Some(terms)
            },
            reports: ReportedLoss::Right,
            step: StepMistake::ShortWindowDropped,
            ..HONEST
        },
    ),
    hypothesis("tied-weight-two-steps", TrainerModel { step: StepMistake::TiedWeightTwice, ..HONEST }),
];
