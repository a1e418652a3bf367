//! Clauses about validations and dropout in a training.

use super::plan::{DROPOUT, together};
use crate::trial::{CaseOutcome, Ended, Trial};
use lossproof_spec::{CompensatedSum, LossSpec, Sequence};
use lossproof_subject::{Evaluated, TensorSet, TrainingEvent, TrainingPlan, TrainingTrace};
use rand::RngExt;

impl Trial<'_> {
    /// The plan with dropout where the trainer has it.
    fn accepted_with_dropout(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<TrainingPlan, Ended> {
        match self.accepted(spec, &TrainingPlan { dropout: DROPOUT, ..plan.clone() }) {
            Ok(plan) => Ok(plan),
            Err(Ended::Unsupported(_)) => self.accepted(spec, plan),
            Err(end) => Err(end),
        }
    }

    /// The plain mean over the supervised tokens of some samples, at these parameters.
    fn plain_mean(&mut self, parameters: &TensorSet, samples: &[Sequence]) -> Result<f64, Ended> {
        self.load(parameters)?;
        let (mut losses, mut tokens) = (Vec::new(), 0);
        for sample in samples {
            let batch = lossproof_cases::edit::alone(sample, &self.facts.info.limits);
            let own = self.token_losses(&batch)?;
            let copies = batch.sequences().count();
            let supervised = batch.predictions().zip(own).filter(|(prediction, _)| prediction.supervised);
            losses.extend(supervised.take(sample.supervised()).map(|(_, loss)| loss));
            tokens += batch.layout().supervised() / copies;
        }
        Ok(losses.into_iter().collect::<CompensatedSum>().value() / tokens as f64)
    }
}

/// The validations of a training that starts at these parameters, each with the parameters of then.
fn validations<'t>(start: &'t TensorSet, trace: &'t TrainingTrace) -> Vec<(&'t TensorSet, &'t Evaluated)> {
    let mut now = start;
    let mut validations = Vec::new();
    for event in &trace.events {
        match event {
            TrainingEvent::Update(update) => now = &update.parameters,
            TrainingEvent::Validation(found) => validations.push((now, found)),
            TrainingEvent::EpochEnd(_) => {}
        }
    }
    validations
}

/// A validation reports the plain mean over its samples, each once, at the parameters of then.
pub(crate) fn training_validation(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let mut plan = trial.plan()?;
    plan.validation = trial.validation_of(&plan);
    let plan = trial.accepted_with_validations(&spec, &plan)?;
    let trace = trial.whole_training(&spec, &plan)?;
    let supervised: usize = plan.validation.iter().map(Sequence::supervised).sum();
    let start = trial.start_of_training()?;
    let validations = validations(&start, &trace);
    let all = together(&plan.validation).ok_or(Ended::NotApplicable)?;
    for (number, (parameters, found)) in validations.iter().enumerate() {
        let expected = trial.plain_mean(parameters, &plan.validation)?;
        let bound = trial.loss_bound(&all);
        let what = format!("validation {number}: loss");
        trial.number(&what, "validation loss", bound, (found.loss, expected), expected.max(1.0));
        trial.fact("validation tokens", found.tokens == supervised, || {
            format!("validation {number} counts {} tokens of {supervised}", found.tokens)
        });
        let (found, expected) = (found.perplexity, expected.exp());
        if expected.is_finite() {
            let scale = expected * expected.ln().max(1.0);
            let what = format!("validation {number}: perplexity");
            trial.number(&what, "perplexity", bound, (found, expected), scale);
        }
    }
    let validations = validations.len();
    trial.load(&start)?;
    let (planned, what) = match plan.evaluate_every {
        0 => (plan.epochs as usize, "epochs"),
        _ => (plan.updates(), "updates"),
    };
    trial.fact("number of validations", validations >= planned, || {
        format!("{validations} validations, and one after each of {planned} {what} was planned")
    });
    Ok(plan.validation.len() > 1)
}

/// A training with validations in it is the training without.
pub(crate) fn training_undisturbed(trial: &mut Trial<'_>) -> CaseOutcome {
    if trial.facts.noise > 0.0 {
        return Err(Ended::Unsupported("repeatable gradients".to_owned()));
    }
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let plan = trial.plan()?;
    let plain = if trial.random.random::<bool>() {
        trial.accepted(&spec, &plan)?
    } else {
        trial.accepted_with_dropout(&spec, &plan)?
    };
    let unit = if plain.dropout > 0.0 { "update under dropout" } else { "update" };
    let validation = trial.validation_of(&plain);
    let mut validated = TrainingPlan { validation, evaluate_every: 1, ..plain.clone() };
    if trial.training()?.accepts(&validated).is_err() {
        // Those at the ends of epochs have updates behind them, too.
        validated.evaluate_every = 0;
        trial.training()?.accepts(&validated)?;
    }
    let expected = trial.whole_training(&spec, &plain)?;
    let found = trial.whole_training(&spec, &validated)?;
    trial.return_to_the_trial()?;
    let made = found.events.iter().filter(|event| matches!(event, TrainingEvent::Validation(_))).count();
    for (k, (found, expected)) in found.updates().zip(expected.updates()).enumerate() {
        let same = found.samples == expected.samples
            && found.loss.map(f64::to_bits) == expected.loss.map(f64::to_bits)
            && found.parameters == expected.parameters;
        trial.fact(unit, same, || {
            format!("update {k} is another one where there are validations between updates")
        });
    }
    Ok(made > 1)
}

/// Dropout acts in training and not in a validation.
pub(crate) fn dropout(trial: &mut Trial<'_>) -> CaseOutcome {
    if trial.facts.noise > 0.0 {
        return Err(Ended::Unsupported("repeatable gradients".to_owned()));
    }
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let mut plan = TrainingPlan { dropout: DROPOUT, ..trial.plan()? };
    plan.validation = trial.validation_of(&plan);
    plan.evaluate_every = 1;
    let plan = trial.accepted(&spec, &plan)?;
    let without = TrainingPlan { dropout: 0.0, ..plan.clone() };
    let other_masks = TrainingPlan { seed: plan.seed + 1, ..plan.clone() };
    let dropped = trial.train(&spec, &plan, None)?;
    let kept = trial.train(&spec, &without, None)?;
    let again = trial.train(&spec, &plan, None)?;
    let other = trial.train(&spec, &other_masks, None)?;
    let start = trial.start_of_training()?;
    let updates = |trace: &TrainingTrace| -> Vec<TensorSet> {
        trace.updates().map(|update| update.parameters.clone()).collect()
    };
    let (on, off) = (updates(&dropped), updates(&kept));
    let acts = on.iter().zip(&off).all(|(on, off)| on != off);
    trial.fact("dropout in training", acts && !on.is_empty(), || {
        format!("a training with dropout {DROPOUT} is the one without")
    });
    trial.fact("masks of a seed", on == updates(&again), || {
        "the same training twice has other masks of dropout".to_owned()
    });
    trial.fact("masks of another seed", on != updates(&other), || {
        "a training with another seed has the same order and the same masks".to_owned()
    });
    // At the same parameters a validation is the same with dropout and without.
    let all = together(&plan.validation).ok_or(Ended::NotApplicable)?;
    let bound = trial.loss_bound(&all);
    for (parameters, found) in validations(&start, &dropped) {
        let expected = trial.plain_mean(parameters, &plan.validation)?;
        let scale = expected.max(1.0);
        trial.number("validation under dropout", "loss", bound, (found.loss, expected), scale);
    }
    trial.load(&start)?;
    Ok(true)
}
