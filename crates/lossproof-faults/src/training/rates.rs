//! The schedule, and what counts as an update.

use super::passes::between;
use super::{
    LAWFUL, TrainingFault,
    between::{Between, TrainerHooks},
    fault,
};
use lossproof_loop::{
    LoopParts, Semantics,
    semantics::{Clock, IdleUpdate},
};
use lossproof_subject::{SubjectError, TrainerState, TrainingEvent, TrainingPlan, TrainingTrace, state_of};

pub(super) const FAULTS: &[TrainingFault] = &[
    fault(
        "schedule-of-unsharded-batches",
        LoopParts { semantics: Semantics { clock: Clock::PerRank, ..LAWFUL.semantics }, ..LAWFUL },
    ),
    fault(
        "schedule-per-rank",
        LoopParts {
            around: Some(|inner, settings| {
                let hooks = TrainerHooks {
                    update: |own, learning_rate, factor| {
                        let again = rate_again(own, learning_rate);
                        own.inner.update(again, factor)
                    },
                    ..TrainerHooks::IDENTITY
                };
                Box::new(Between::new(inner, settings, hooks))
            }),
            trace: |plan, trace| with_rates(trace, |update| per_rank(plan, update)),
            ..LAWFUL
        },
    ),
    fault(
        "schedule-per-micro-batch",
        LoopParts {
            around: Some(|inner, settings| {
                let hooks = TrainerHooks {
                    update: |own, learning_rate, factor| {
                        let steps = own.settings.accumulate as f64;
                        let base = own.settings.learning_rate;
                        let left = (1.0 - steps * (1.0 - learning_rate / base)).max(0.0);
                        own.inner.update(base * left, factor)
                    },
                    ..TrainerHooks::IDENTITY
                };
                Box::new(Between::new(inner, settings, hooks))
            }),
            trace: |plan, trace| with_rates(trace, |update| plan.learning_rate_of(update * plan.accumulate)),
            ..LAWFUL
        },
    ),
    fault(
        "skipped-step-counted",
        LoopParts {
            semantics: Semantics { idle: IdleUpdate::Made, ..LAWFUL.semantics },
            around: Some(|inner, settings| {
                let hooks = TrainerHooks {
                    update: |own, learning_rate, factor| {
                        let finite = has_finite_gradient(own)?;
                        if finite { own.inner.update(learning_rate, factor) } else { Ok(()) }
                    },
                    ..TrainerHooks::IDENTITY
                };
                Box::new(Between::new(inner, settings, hooks))
            }),
            trace: |_, mut trace| {
                for event in &mut trace.events {
                    if let TrainingEvent::Update(update) = event {
                        update.skipped = update.loss.is_some_and(|loss| !loss.is_finite());
                    }
                }
                trace
            },
            ..LAWFUL
        },
    ),
    between!(
        "skipped-step-decays",
        TrainerHooks {
            zero: |own| {
                let finite = has_finite_gradient(own)?;
                own.inner.zero_gradient()?;
                if finite { Ok(()) } else { own.inner.update(own.settings.learning_rate, 1.0) }
            },
            ..TrainerHooks::IDENTITY
        }
    ),
    between!(
        "skipped-step-in-adam-count",
        TrainerHooks {
            zero: |own| {
                let finite = has_finite_gradient(own)?;
                own.inner.zero_gradient()?;
                if finite {
                    return Ok(());
                }
                let state = state_of(own.inner)?;
                own.inner.restore(&TrainerState { updates: state.updates + 1, ..state })
            },
            ..TrainerHooks::IDENTITY
        }
    ),
];

/// Whether every parameter's gradient is finite.
fn has_finite_gradient(own: &mut Between<'_>) -> Result<bool, SubjectError> {
    Ok(own.inner.gradient_norms()?.iter().all(|norm| norm.is_finite()))
}

/// The rate that a schedule has which is stepped once for every rank.
fn per_rank(plan: &TrainingPlan, update: usize) -> f64 {
    plan.learning_rate_of(update * plan.ranks)
}

/// The same from the rate of a schedule that is stepped once, linear to zero.
fn rate_again(own: &Between<'_>, learning_rate: f64) -> f64 {
    let base = own.settings.learning_rate;
    let gone = 1.0 - learning_rate / base;
    base * (1.0 - own.settings.ranks as f64 * gone).max(0.0)
}

/// The trace with these rates in its log.
fn with_rates(mut trace: TrainingTrace, rate: impl Fn(usize) -> f64) -> TrainingTrace {
    let mut update = 0;
    for event in &mut trace.events {
        if let TrainingEvent::Update(own) = event {
            own.learning_rate = Some(rate(update));
            update += 1;
        }
    }
    trace
}
