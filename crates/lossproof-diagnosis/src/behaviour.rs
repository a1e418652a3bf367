//! Predictions of what a trainer does beside losses and gradients: steps, validation, attention.

use super::{
    examination::Sight,
    judge::Judge,
    model::{Fit, Model},
    numbers::{Numbers, largest},
    oracle::Values,
    runs::Run,
    score::Score,
    steps::{Mistake, Shown, Simulation},
    validation::Validation,
};
use lossproof_numerics::norm;
use lossproof_spec::{LossSpec, Sequence};

impl Judge<'_, '_> {
    /// Holds a validation to what a model makes of the losses of its tokens.
    pub(super) fn validation(&self, validation: &Validation, model: &Model, score: &mut Score) {
        let spec = LossSpec::token_mean();
        let mut corpus: Vec<Vec<Vec<f64>>> = Vec::new();
        for (batch, losses) in validation.batches.iter().zip(&validation.losses) {
            let mut rest = losses.iter();
            let sequence = |sequence: &Sequence| {
                let seen = (model.sees)(sequence, &spec, &self.seen.limits);
                let own: Vec<f64> = rest.by_ref().take(sequence.len() - 1).copied().collect();
                own.into_iter()
                    .enumerate()
                    .filter(|(at, _)| seen.supervises(*at))
                    .map(|(_, loss)| loss)
                    .collect()
            };
            corpus.push(batch.sequences().iter().map(sequence).collect());
        }
        let expected = (model.validate)(&corpus);
        let printed = validation.printed;
        let numbers = Numbers { tolerance: self.tolerance(), floor: 0.0 };
        let leaked = if model.leaks { expected.loss } else { 0.0 };
        let pairs = [
            ("the loss of a validation", printed.loss, expected.loss),
            ("the perplexity of a validation", printed.perplexity, expected.perplexity),
            ("the tokens of a validation", printed.tokens as f64, expected.tokens as f64),
            ("the loss of training after a validation", validation.after, validation.before + leaked),
        ];
        for (what, found, expected) in pairs {
            let fit = if numbers.same_number(found, expected) { Fit::Exactly } else { Fit::Not };
            score.add(fit, || format!("{what}, {found:.6} where {expected:.6} was expected"));
        }
    }

    /// Holds the steps of a run to what a mistake makes of their gradients.
    pub(super) fn run(&self, run: &Run, mistake: Mistake, score: &mut Score) {
        let dimensions = |name: &str| {
            let found = self.seen.parameters.iter().find(|parameter| parameter.name == name);
            found.map_or(0, |parameter| parameter.shape.len())
        };
        let mut simulation = Simulation::new(mistake, &run.optimizer, largest(self.seen.dtype), &dimensions);
        for (number, (window, shown)) in run.steps.iter().enumerate() {
            let expected = simulation.step(window);
            let numbers = Numbers { tolerance: self.tolerance(), floor: 0.0 };
            let what = |of: &str| format!("{of} in step {number} with {}", run.name);
            let told = [
                ("the gradient norm", expected.grad_norm, shown.grad_norm),
                ("the clip factor", expected.clip_factor, shown.clip_factor),
                ("the learning rate", expected.learning_rate, shown.learning_rate),
            ];
            for (of, expected, found) in told {
                let (Some(expected), Some(found)) = (expected, found) else { continue };
                let fit = if numbers.same_number(found, expected) { Fit::Exactly } else { Fit::Not };
                score.add(fit, || {
                    format!("{}: {found:.6} where {expected:.6} follows from the gradients", what(of))
                });
            }
            if let (Some(expected), Some(found)) = (expected.skipped, shown.skipped) {
                let fit = if expected == found { Fit::Exactly } else { Fit::Not };
                let (was, should) = if found { ("skipped", "taken") } else { ("taken", "skipped") };
                score.add(fit, || {
                    format!("step {number} with {} was {was}, and should be {should}", run.name)
                });
            }
            self.moved(&expected, shown, &window.before, &mut |fit, name| {
                score.add(fit, || {
                    format!("{} is not what its gradients make of it", what(&format!("the update of {name}")))
                });
            });
        }
    }

    /// How every parameter moved.
    fn moved(&self, expected: &Shown, shown: &Shown, before: &Values, add: &mut dyn FnMut(Fit, &str)) {
        let (Some(expected), Some(found)) = (&expected.values, &shown.values) else { return };
        for (name, before) in before {
            let Some(found) = found.get(name) else { continue };
            let Some(expected) = expected.get(name) else {
                // The hypothesis says that this one is wrong, and not how.
                add(Fit::Loosely, name);
                continue;
            };
            let moves =
                |to: &[f64]| -> Vec<f64> { to.iter().zip(before).map(|(to, from)| to - from).collect() };
            // A parameter that moves is rounded to the dtype.
            let floor = 64.0 * self.seen.dtype.unit_roundoff() / self.tolerance() * norm(before);
            let numbers = Numbers { tolerance: self.tolerance(), floor };
            add(numbers.fit(&moves(found), &moves(expected)), name);
        }
    }
}

/// Whether a model's attention is the one seen. Where a document's rows are padding, nothing is asked.
pub(super) fn sees_as(model: &Model, sight: &Sight) -> bool {
    sight.depends.iter().enumerate().all(|(position, depends)| {
        sight.sequence.segment_ids()[position] == 0
            || depends.iter().enumerate().all(|(input, depends)| {
                (model.attends)(&sight.sequence, position, input).is_none_or(|expected| expected == *depends)
            })
    })
}
