//! Clauses about validations and dropout in a training.

use super::plan::{DROPOUT, epochs, same_bits, together};
use crate::trial::{CaseOutcome, Ended, Trial};
use lossproof_spec::{CompensatedSum, Dtype, LossSpec, Sequence};
use lossproof_subject::{Evaluated, TensorSet, TracedUpdate, TrainingEvent, TrainingPlan, TrainingTrace};
use rand::RngExt;

impl Trial<'_> {
    /// Holds the masks of two seeds to be others, where all samples are one and in one update: then no order makes a
    /// difference, and what has the same masks leaves the same bits.
    fn masks_of_another_seed(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<(), Ended> {
        let accumulate = plan.training.len().div_ceil(plan.batch);
        let limits = self.facts.info.limits;
        let one = TrainingPlan {
            training: vec![plan.training[0].clone(); plan.training.len()],
            validation: Vec::new(),
            evaluate_every: 0,
            accumulate,
            ranks: 1,
            epochs: 1,
            ..plan.clone()
        };
        let takes_it = limits.micro_batches.contains(accumulate) && limits.ranks.contains(1);
        if !takes_it || self.training()?.accepts(&one).is_err() {
            return Ok(());
        }
        let other = TrainingPlan { seed: one.seed + 1, ..one.clone() };
        let (first, second) = (self.train(spec, &one, None)?, self.train(spec, &other, None)?);
        if !moves(&first) || !moves(&second) {
            return Ok(());
        }
        self.fact("masks of another seed", !same_updates(&first, &second), || {
            "the same samples under another seed have the same masks of dropout".to_owned()
        });
        Ok(())
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

/// Whether two sets of parameters are the same to the bit.
fn same_parameters(one: &TensorSet, other: &TensorSet) -> bool {
    let same = |name: &String, one| other.get(name).is_some_and(|other| same_bits(one, other));
    one.len() == other.len() && one.iter().all(|(name, one)| same(name, one))
}

/// Whether the updates of two trainings leave the same behind, to the bit.
fn same_updates(one: &TrainingTrace, other: &TrainingTrace) -> bool {
    let pair =
        |(one, other): (&TracedUpdate, &TracedUpdate)| same_parameters(&one.parameters, &other.parameters);
    one.updates().count() == other.updates().count() && one.updates().zip(other.updates()).all(pair)
}

/// Whether an update of a training was made.
fn moves(trace: &TrainingTrace) -> bool {
    trace.updates().any(|update| !update.skipped)
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
        let largest = if trial.facts.loss_dtype() == Dtype::F64 { f64::MAX } else { f64::from(f32::MAX) };
        if expected < largest {
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
    let plan = trial.accepted_with_validations(&spec, &plan)?;
    let without = TrainingPlan { dropout: 0.0, ..plan.clone() };
    trial.training()?.accepts(&without)?;
    let dropped = trial.train(&spec, &plan, None)?;
    let kept = trial.train(&spec, &without, None)?;
    let again = trial.train(&spec, &plan, None)?;
    let start = trial.start_of_training()?;
    if !moves(&dropped) || !moves(&kept) {
        return Ok(false);
    }
    trial.fact("dropout in training", !same_updates(&dropped, &kept), || {
        format!("a training with dropout {DROPOUT} is the one without")
    });
    trial.fact("masks of a seed", same_updates(&dropped, &again), || {
        "the same training twice has other masks of dropout".to_owned()
    });
    trial.masks_of_another_seed(&spec, &plan)?;
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
