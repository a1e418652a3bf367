//! Clauses about validations in a training.

use super::plan::{epochs, same_bits, together};
use crate::trial::{CaseOutcome, Ended, Trial};
use lossproof_spec::{CompensatedSum, Sequence};
use lossproof_subject::{Evaluated, TensorSet, TracedUpdate, TrainingEvent, TrainingPlan, TrainingTrace};
use rand::RngExt;

impl Trial<'_> {
    /// The plain mean over the supervised tokens of some samples, at these parameters.
    pub(super) fn plain_mean(&mut self, parameters: &TensorSet, samples: &[Sequence]) -> Result<f64, Ended> {
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

/// Whether two sets of parameters are the same to the bit.
pub(super) fn same_parameters(one: &TensorSet, other: &TensorSet) -> bool {
    let same = |name: &String, one| other.get(name).is_some_and(|other| same_bits(one, other));
    one.len() == other.len() && one.iter().all(|(name, one)| same(name, one))
}

/// Whether the updates of two trainings leave the same behind, to the bit.
pub(super) fn same_updates(one: &TrainingTrace, other: &TrainingTrace) -> bool {
    let pair =
        |(one, other): (&TracedUpdate, &TracedUpdate)| same_parameters(&one.parameters, &other.parameters);
    one.updates().count() == other.updates().count() && one.updates().zip(other.updates()).all(pair)
}

/// The validations of a training that starts at these parameters, each with the parameters of then.
pub(super) fn validations<'t>(
    start: &'t TensorSet,
    trace: &'t TrainingTrace,
) -> Vec<(&'t TensorSet, &'t Evaluated)> {
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
    let trace = trial.train(&spec, &plan, None)?;
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
        // Beyond the range of the trainer's numbers it is infinite.
        if expected < trial.facts.loss_dtype().largest() {
            let scale = expected * expected.ln().max(1.0);
            let what = format!("validation {number}: perplexity");
            trial.number(&what, "perplexity", bound, (found, expected), scale);
        }
    }
    let validations = validations.len();
    trial.load(&start)?;
    let (planned, what) = match plan.evaluate_every {
        0 => (plan.epochs as usize, "epochs"),
        _ => (trace.updates().filter(|update| !update.skipped).count().max(1), "updates"),
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
    let expected = trial.train(&spec, &plain, None)?;
    let found = trial.train(&spec, &validated, None)?;
    trial.return_to_the_trial()?;
    let made = found.events.iter().filter(|event| matches!(event, TrainingEvent::Validation(_))).count();
    let (own, others) = (found.updates().count(), expected.updates().count());
    trial.fact("number of updates", own == others, || {
        format!("with validations there are {own} updates, and {others} without")
    });
    let ends = |trace: &TrainingTrace| -> Vec<u64> {
        epochs(trace).into_iter().filter_map(|(_, loss)| loss.map(f64::to_bits)).collect()
    };
    if !ends(&expected).is_empty() {
        trial.fact("epoch loss", ends(&found) == ends(&expected), || {
            "the loss of an epoch is another one where there are validations in it".to_owned()
        });
    }
    for (k, (found, expected)) in found.updates().zip(expected.updates()).enumerate() {
        let same = found.samples == expected.samples
            && found.loss.map(f64::to_bits) == expected.loss.map(f64::to_bits)
            && same_parameters(&found.parameters, &expected.parameters);
        trial.fact(unit, same, || {
            format!("update {k} is another one where there are validations between updates")
        });
    }
    Ok(made > 1)
}
