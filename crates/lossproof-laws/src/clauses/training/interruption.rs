//! Clauses of group 9: a training that is stopped and resumed.

use super::accepted::{adam, clipped};
use super::plan::{DROPOUT, epochs, same_bits, times_met};
use crate::trial::{CaseOutcome, Ended, Trial};
use lossproof_spec::{LossSpec, Rule};
use lossproof_subject::{
    PlannedSchedule, SubjectError, TracedUpdate, TrainingEvent, TrainingLoop, TrainingPlan, TrainingTrace,
};
use rand::RngExt;
use std::collections::BTreeSet;

impl Trial<'_> {
    /// A plan whose end depends on everything that has to be saved: moments, the schedule, the order of the samples
    /// and the masks of dropout, as far as the trainer has them.
    fn stateful_plan(&mut self, spec: &LossSpec) -> Result<TrainingPlan, Ended> {
        if self.facts.noise > 0.0 {
            return Err(Ended::Unsupported("repeatable gradients".to_owned()));
        }
        self.subject.configure(spec)?;
        if !self.training()?.resumes() {
            return Err(Ended::Unsupported("resuming a training".to_owned()));
        }
        let plan = TrainingPlan { rule: Rule::AdamW(adam(0.125)), ..self.plan()? };
        let mut plans = Vec::new();
        for schedule in [PlannedSchedule::Linear, PlannedSchedule::Constant] {
            plans.extend([DROPOUT, 0.0].map(|dropout| TrainingPlan { schedule, dropout, ..plan.clone() }));
        }
        // Each a thing that has to be set up anew, and one at a time: a trainer may have one and not the others.
        let mut more = plans.clone();
        match self.random.random_range(0..4) {
            0 => {
                let clip = self.clip_of(spec, &plan)?;
                more = more.iter().flat_map(|plan| clipped(plan, clip)).collect();
            }
            1 => {
                let frozen: BTreeSet<String> =
                    self.facts.parameters.iter().map(|info| info.name.clone()).collect();
                let frozen: BTreeSet<String> = frozen.into_iter().step_by(2).collect();
                for plan in &mut more {
                    plan.frozen.clone_from(&frozen);
                }
            }
            2 => {
                let validation = self.validation_of(&plan);
                for plan in &mut more {
                    plan.validation.clone_from(&validation);
                    plan.evaluate_every = 1;
                }
            }
            _ => {}
        }
        more.extend(plans);
        self.first_accepted(spec, &more)
    }

    /// Goes on from what was saved, after everything else of the training was taken away.
    fn resumed(
        &mut self,
        spec: &LossSpec,
        plan: &TrainingPlan,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, Ended> {
        Ok(self.fresh_process(spec)?.resume(plan, stop_after)?)
    }

    /// The trainer's loop, as a fresh process has it: optimizer state in memory is no checkpoint.
    fn fresh_process(&mut self, spec: &LossSpec) -> Result<&mut dyn TrainingLoop, Ended> {
        self.subject.reset()?;
        self.fresh_training(spec)
    }

    /// Holds a training that was stopped to one that was not.
    fn unbroken(&mut self, what: &str, plan: &TrainingPlan, parts: &[TrainingTrace], whole: &TrainingTrace) {
        let events: Vec<&TrainingEvent> = parts.iter().flat_map(|part| &part.events).collect();
        let (found, expected) = (events.len(), whole.events.len());
        self.fact("events", found == expected, || {
            format!("{what}: {found} events, and {expected} without being stopped")
        });
        for (number, (found, expected)) in events.iter().zip(&whole.events).enumerate() {
            let differences = differences(plan, found, expected);
            let differs = differences.iter().any(|(_, difference)| difference.is_some());
            for (unit, difference) in differences {
                self.fact(unit, difference.is_none(), || {
                    let difference = difference.unwrap_or_default();
                    format!("{what}: event {number} is another than without being stopped: {difference}")
                });
            }
            // What follows is its consequence.
            if differs {
                break;
            }
        }
    }
}

/// A unit, and what two events differ in, if they do.
type Differing = (&'static str, Option<String>);

/// What two events differ in, by the bits of their numbers.
fn differences(plan: &TrainingPlan, found: &TrainingEvent, expected: &TrainingEvent) -> Vec<Differing> {
    match (found, expected) {
        (TrainingEvent::Update(found), TrainingEvent::Update(expected)) => of_updates(plan, found, expected),
        (TrainingEvent::Validation(found), TrainingEvent::Validation(expected)) => {
            let same = found.loss.to_bits() == expected.loss.to_bits();
            let difference = format!("it reports {} instead of {}", found.loss, expected.loss);
            vec![("validation", (!same).then_some(difference))]
        }
        (TrainingEvent::EpochEnd(found), TrainingEvent::EpochEnd(expected)) => {
            if found.is_none() && expected.is_none() {
                // Nothing is logged, and nothing compared.
                return Vec::new();
            }
            let same = found.map(f64::to_bits) == expected.map(f64::to_bits);
            let difference =
                format!("the loss of the epoch is {} instead of {}", said(*found), said(*expected));
            vec![("end of an epoch", (!same).then_some(difference))]
        }
        _ => vec![("order of events", Some("it is one of another kind".to_owned()))],
    }
}

/// A number that is logged or not, in words.
fn said(number: Option<f64>) -> String {
    number.map_or_else(|| "not logged".to_owned(), |number| number.to_string())
}

fn of_updates(plan: &TrainingPlan, found: &TracedUpdate, expected: &TracedUpdate) -> Vec<Differing> {
    let indices = |update: &TracedUpdate| {
        let indices: Vec<String> = update.indices().map(|index| index.to_string()).collect();
        indices.join(", ")
    };
    let samples = (found.samples != expected.samples)
        .then(|| format!("samples {} instead of {}", indices(found), indices(expected)));
    let skipped = (found.skipped != expected.skipped).then(|| "one of them was skipped".to_owned());
    let mut differing = vec![("samples", samples), ("skipped updates", skipped)];
    for (unit, one, other) in [
        ("learning rate", found.learning_rate, expected.learning_rate),
        ("logged loss", found.loss, expected.loss),
        ("grad norm", found.grad_norm, expected.grad_norm),
    ] {
        if one.is_none() && other.is_none() {
            continue;
        }
        let same = one.map(f64::to_bits) == other.map(f64::to_bits);
        differing
            .push((unit, (!same).then(|| format!("the {unit} is {} instead of {}", said(one), said(other)))));
    }
    let others = |frozen: bool| {
        let of_kind =
            expected.parameters.iter().filter(|(name, _)| plan.frozen.contains(name.as_str()) == frozen);
        let same = |name: &str, tensor| found.parameters.get(name).is_some_and(|own| same_bits(own, tensor));
        let mut differ = of_kind.filter(|(name, tensor)| !same(name, tensor));
        differ.next().map(|(name, _)| format!("{name} has other values"))
    };
    let unit = if plan.clip.is_some() { "update under clipping" } else { "update" };
    differing.push((unit, others(false)));
    if !plan.frozen.is_empty() {
        differing.push(("update of what is frozen", others(true)));
    }
    differing
}

/// Stopped after any update and resumed, a training goes on as if it had not been stopped.
pub(crate) fn resume(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let plan = trial.stateful_plan(&spec)?;
    let whole = trial.train(&spec, &plan, None)?;
    // One within the first epoch, one at any place: over the cases of a campaign all of them.
    let updates = whole.updates().count() as u64;
    let first = trial.random.random_range(1..=plan.updates_per_epoch() as u64);
    for stop in [first.min(updates.max(1)), trial.random.random_range(1..updates.max(2))] {
        let before = trial.train(&spec, &plan, Some(stop))?;
        let after = trial.resumed(&spec, &plan, None)?;
        trial.unbroken(&format!("stopped after update {stop}"), &plan, &[before, after], &whole);
    }
    trial.return_to_the_trial()?;
    Ok(updates > 2)
}

/// Two resumes in a row, and one at the end.
pub(crate) fn resume_again(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let plan = trial.stateful_plan(&spec)?;
    let whole = trial.train(&spec, &plan, None)?;
    let updates = whole.updates().count() as u64;
    if updates < 3 {
        return Ok(false);
    }
    let finished = trial.resumed(&spec, &plan, None)?;
    trial.fact("resumed at the end", finished.updates().next().is_none(), || {
        "a training that was at its end makes updates where it is resumed".to_owned()
    });
    let first = trial.random.random_range(1..updates - 1);
    let second = trial.random.random_range(1..updates - first);
    let parts = [
        trial.train(&spec, &plan, Some(first))?,
        trial.resumed(&spec, &plan, Some(second))?,
        trial.resumed(&spec, &plan, None)?,
    ];
    let what = format!("stopped after update {first} and again {second} later");
    trial.unbroken(&what, &plan, &parts, &whole);
    trial.return_to_the_trial()?;
    Ok(true)
}

/// Another plan is refused, or the epoch still meets every sample once.
pub(crate) fn resume_otherwise(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let plan = trial.stateful_plan(&spec)?;
    let others = [
        TrainingPlan { accumulate: plan.accumulate + 1, ..plan.clone() },
        TrainingPlan { batch: plan.batch + 1, ..plan.clone() },
        TrainingPlan { ranks: plan.ranks + 1, ..plan.clone() },
    ];
    let mut tried = 0;
    for other in others {
        if !trial.can_run(&other, plan.window()) || trial.training()?.accepts(&other).is_err() {
            continue;
        }
        let before = trial.train(&spec, &plan, Some(1))?;
        trial.note_plan("resumed with ", &other, None);
        let answer = trial.fresh_process(&spec)?.resume(&other, None);
        let changed = format!(
            "{} samples × {} micro-batches × {} ranks instead of {} × {} × {}",
            other.batch, other.accumulate, other.ranks, plan.batch, plan.accumulate, plan.ranks
        );
        let after = match answer {
            Err(SubjectError::OtherTraining { .. }) => None,
            answer => Some(answer?),
        };
        let once = after.is_none_or(|after| {
            let epochs = epochs(&after);
            (0..plan.epochs as usize).all(|epoch| {
                let updates = epochs.get(epoch).map_or(&[][..], |(updates, _)| updates);
                let own = before.updates().take(usize::from(epoch == 0)).chain(updates.iter().copied());
                times_met(&plan, own).iter().all(|&times| times == 1)
            })
        });
        trial.fact("samples after a change", once, || {
            format!("resumed with {changed}, it is not refused, and an epoch does not meet every sample once")
        });
        tried += 1;
    }
    trial.return_to_the_trial()?;
    Ok(tried > 0)
}
