//! What a trainer does beside losses and gradients, held to a model of it: optimizer steps and a validation.

use crate::{
    half_digits::{HalfDigits, tolerance},
    named_values::NamedValues,
    optimizer_runs::OptimizerRun,
    score::{Grade, Score},
    simulated_optimizer::{SimulatedOptimizer, StepMistake, StepOutcome},
    trainer_model::TrainerModel,
    validation::honest,
    validation_run::ValidationRun,
};
use lossproof_numerics::{norm, vector};
use lossproof_spec::{Dtype, LossSpec};
use lossproof_subject::{Limits, ParameterInfo};

/// Holds a validation to what a model makes of the losses of its tokens.
pub(crate) fn score_validation(
    validation: &ValidationRun,
    model: &TrainerModel,
    (dtype, limits): (Dtype, &Limits),
    score: &mut Score,
) {
    let spec = LossSpec::token_mean();
    let mut corpus: Vec<Vec<Vec<f64>>> = Vec::new();
    for (batch, losses) in validation.batches.iter().zip(&validation.losses) {
        let mut rest = losses.iter();
        let mut of_batch = Vec::new();
        for sequence in batch.sequences() {
            let seen = (model.sees)(sequence, &spec, limits);
            let own = rest.by_ref().take(sequence.len() - 1).enumerate();
            of_batch.push(own.filter(|(at, _)| seen.supervises(*at)).map(|(_, loss)| *loss).collect());
        }
        corpus.push(of_batch);
    }
    let expected = model.validate.unwrap_or(honest)(&corpus);
    let printed = validation.printed;
    let leaked = if model.leaks { expected.loss } else { 0.0 };
    for (what, found, expected) in [
        ("the loss of a validation", printed.loss, expected.loss),
        ("the perplexity of a validation", printed.perplexity, expected.perplexity),
        ("the tokens of a validation", printed.tokens as f64, expected.tokens as f64),
        ("the loss of training after a validation", validation.after, validation.before + leaked),
    ] {
        let grade = HalfDigits::of(dtype).grade_number(found, expected);
        // What is wrong in training may be so in a validation too, in whatever way.
        if grade == Grade::Impossible && model.validate.is_none() && !model.leaks {
            score.unforecast(1);
            continue;
        }
        score.add(grade, || format!("{what}, {found:.6} where {expected:.6} was expected"));
    }
}

/// Holds the steps of a run to what a mistake makes of their gradients.
pub(crate) fn score_run(
    run: &OptimizerRun,
    mistake: StepMistake,
    (dtype, parameters): (Dtype, &[ParameterInfo]),
    score: &mut Score,
) {
    let mut simulated = SimulatedOptimizer::new(mistake, &run.optimizer, dtype, parameters);
    for (number, (inputs, found)) in run.steps.iter().enumerate() {
        let expected = simulated.step(inputs);
        let what = |of: &str| format!("{of} in step {number} with {}", run.name);
        for (of, expected, found) in [
            ("the gradient norm", expected.grad_norm, found.grad_norm),
            ("the clip factor", expected.clip_factor, found.clip_factor),
            ("the learning rate", expected.learning_rate, found.learning_rate),
        ] {
            let (Some(expected), Some(found)) = (expected, found) else { continue };
            let grade = HalfDigits::of(dtype).grade_number(found, expected);
            score.add(grade, || {
                format!("{}: {found:.6} where {expected:.6} follows from the gradients", what(of))
            });
        }
        if let (Some(expected), Some(found)) = (expected.skipped, found.skipped) {
            let (was, should) = if found { ("skipped", "taken") } else { ("taken", "skipped") };
            score.add(Grade::exact_or_impossible(expected == found), || {
                format!("step {number} with {} was {was}, and should be {should}", run.name)
            });
        }
        for (name, grade) in grade_moves(&expected, found, &inputs.before, dtype) {
            score.add(grade, || {
                format!("{} is not what its gradients make of it", what(&format!("the update of {name}")))
            });
        }
    }
}

/// How well the move of every parameter in a step agrees with the expected one.
fn grade_moves<'a>(
    expected: &StepOutcome,
    found: &StepOutcome,
    before: &'a NamedValues,
    dtype: Dtype,
) -> Vec<(&'a str, Grade)> {
    let (Some(expected), Some(found)) = (&expected.values, &found.values) else { return Vec::new() };
    let mut grades = Vec::new();
    for (name, before) in before {
        let Some(found) = found.get(name) else { continue };
        let Some(expected) = expected.get(name) else {
            // The mistake makes this one wrong, and does not say how.
            grades.push((name.as_str(), Grade::Loose));
            continue;
        };
        // A parameter that moves is rounded to the dtype.
        let floor = 64.0 * dtype.unit_roundoff() / tolerance(dtype) * norm(before);
        let half_digits = HalfDigits { floor, ..HalfDigits::of(dtype) };
        grades.push((
            name.as_str(),
            half_digits.grade(&vector::minus(found, before), &vector::minus(expected, before)),
        ));
    }
    grades
}
