//! How well a hypothesis fits what was seen.

use super::{
    examination::{Examination, Run, Sight, States, Validation},
    model::{Beside, Call, Fit, Model, Operators, Term, honest_attention, honest_terms},
    oracle::{Oracle, Outcome, Pinned, Reference, Values},
    probes::State,
    steps::{Mistake, Shown, Simulation},
};
use crate::{Dtype, Subject, SubjectError};
use lossproof_spec::{LossSpec, Sequence};

/// Everything seen that a hypothesis speaks of, by how well it fits.
#[derive(Clone, Debug, Default)]
pub(super) struct Score {
    fits: [usize; 4],
    /// The first thing that the hypothesis cannot have made.
    pub(super) against: Option<String>,
}

impl Score {
    fn add(&mut self, fit: Fit, what: impl FnOnce() -> String) {
        self.fits[fit as usize] += 1;
        if fit == Fit::Not && self.against.is_none() {
            self.against = Some(what());
        }
    }

    fn merge(&mut self, other: &Self) {
        self.fits.iter_mut().zip(other.fits).for_each(|(own, more)| *own += more);
        if self.against.is_none() {
            self.against.clone_from(&other.against);
        }
    }

    /// Whether nothing speaks against it.
    pub(super) fn possible(&self) -> bool {
        self.fits[Fit::Not as usize] == 0
    }

    /// Things that are as they were predicted.
    pub(super) fn exact(&self) -> usize {
        self.fits[Fit::Exactly as usize]
    }

    /// Everything that was compared.
    pub(super) fn total(&self) -> usize {
        self.fits.iter().sum()
    }

    /// How much less likely it makes what was seen than a hypothesis that predicts all of it, in nats.
    ///
    /// A prediction of numbers to half of the dtype's digits that fails is as good as impossible; one that only says that
    /// something is wrong is weak where it succeeds, and weaker where nothing is.
    pub(super) fn cost(&self) -> f64 {
        let [_, loosely, poorly, not] = self.fits.map(|count| count as f64);
        loosely + 3.0 * poorly + 40.0 * not
    }
}

/// A hypothesis's word on a probe.
enum Said<T> {
    /// This.
    Value(T),
    /// No number: the mean of nothing.
    Nothing,
    /// Something that nobody can compute.
    Unknown,
}

/// Predictions beside measurements.
pub(super) struct Judge<'a, 'r> {
    pub(super) seen: &'a Examination,
    states: &'a mut States,
    reference: Option<&'r mut (dyn Subject + 'r)>,
    /// Whether the reference has the parameters of the general state.
    loaded: bool,
    /// By probe: what an honest trainer gives, where somebody can tell.
    honest: Vec<Option<Outcome>>,
    /// What was asked of an oracle about a probe already.
    told: Vec<Vec<(Vec<Term>, Option<Outcome>)>>,
    /// Scores of the steps, by mistake.
    steps: Vec<(Mistake, Score)>,
}

impl<'a, 'r> Judge<'a, 'r> {
    pub(super) fn new(
        seen: &'a Examination,
        states: &'a mut States,
        reference: Option<&'r mut (dyn Subject + 'r)>,
    ) -> Result<Self, SubjectError> {
        let count = seen.measured.len();
        let (honest, told) = (Vec::new(), vec![Vec::new(); count]);
        let mut judge = Self { seen, states, reference, loaded: false, honest, told, steps: Vec::new() };
        for index in 0..count {
            let measured = &seen.measured[index];
            let terms = honest_terms(&measured.probe.call(&seen.limits));
            let outcome = match terms {
                Some(terms) => judge.outcome(index, &Model::HONEST, &terms)?,
                None => None,
            };
            judge.honest.push(outcome);
        }
        Ok(judge)
    }

    /// What two numbers may differ by, relative to their scale: half of the dtype's digits. Hypotheses closer than that are
    /// not told apart.
    pub(super) fn tolerance(&self) -> f64 {
        tolerance(self.seen.dtype)
    }

    /// The closed form of a state with known logits.
    pub(super) fn pin(&mut self, state: State) -> Option<&Pinned> {
        self.states.pin(state).map(|pin| &*pin)
    }

    /// The loss of a probe beside what it should be, where it is something else.
    pub(super) fn strange_loss(&self, index: usize) -> Option<String> {
        let (measured, honest) = (&self.seen.measured[index], self.honest[index].as_ref()?);
        let numbers = Numbers { tolerance: self.tolerance(), floor: 0.0 };
        let (probe, found, due) = (&measured.probe, measured.loss, honest.loss);
        let said =
            format!("{} under {}: the loss is {found:.6} where {due:.6} is right", probe.name, probe.spec);
        (!numbers.same_number(found, due)).then_some(said)
    }

    /// The parameters whose gradient is not what it should be on some probe.
    pub(super) fn strange_gradients(&self) -> Vec<String> {
        let strange = |name: &str| {
            self.seen.measured.iter().zip(&self.honest).any(|(measured, honest)| {
                let Some(honest) = honest else { return false };
                let numbers = Numbers { tolerance: self.tolerance(), floor: honest.norm() / 1024.0 };
                let pair = measured.gradient.get(name).zip(honest.gradient.get(name));
                pair.is_some_and(|(found, due)| !numbers.same(found, due))
            })
        };
        let names = self.seen.parameters.iter().map(|parameter| &parameter.name);
        names.filter(|name| strange(name)).cloned().collect()
    }

    /// The first thing that is wrong in a run, in words.
    pub(super) fn strange_step(&self, run: &Run) -> Option<String> {
        let mut score = Score::default();
        self.run(run, Mistake::None, &mut score);
        score.against.map(|what| format!("{what} is not what the gradients make of it"))
    }

    /// The score of a hypothesis's model.
    pub(super) fn score(&mut self, model: &Model) -> Result<Score, SubjectError> {
        let mut score = Score::default();
        for index in 0..self.seen.measured.len() {
            score.merge(&self.probe(index, model)?);
        }
        for sight in &self.seen.sights {
            let fit = if sees_as(model, sight) { Fit::Exactly } else { Fit::Not };
            score.add(fit, || "who attends to whom".to_owned());
        }
        if let Some(validation) = &self.seen.validation {
            self.validation(validation, model, &mut score);
        }
        if let Some(repeatable) = self.seen.repeatable {
            let fit = if repeatable == model.repeatable { Fit::Exactly } else { Fit::Not };
            score.add(fit, || "the same call twice".to_owned());
        }
        if model.repeatable {
            score.merge(&self.steps(model.step));
        }
        Ok(score)
    }

    fn outcome(
        &mut self,
        index: usize,
        model: &Model,
        terms: &[Term],
    ) -> Result<Option<Outcome>, SubjectError> {
        // Another kernel says something else of the same terms; there are few of those.
        if model.kernel.is_none()
            && let Some((_, outcome)) = self.told[index].iter().find(|(asked, _)| asked == terms)
        {
            return Ok(outcome.clone());
        }
        let state = self.seen.measured[index].probe.state;
        let outcome = if let Some(pin) = self.states.pin(state) {
            pin.outcome(model.kernel, terms)?
        } else if let Some(subject) = self.reference.as_deref_mut() {
            if !self.loaded {
                subject.reset()?;
                if let Some(loader) = subject.parameter_loading() {
                    loader.load(&self.states.general)?;
                }
                self.loaded = true;
            }
            Reference { subject }.outcome(model.kernel, terms)?
        } else {
            None
        };
        if model.kernel.is_none() {
            self.told[index].push((terms.to_vec(), outcome.clone()));
        }
        Ok(outcome)
    }

    fn said(
        &mut self,
        index: usize,
        model: &Model,
        terms: Option<Vec<Term>>,
    ) -> Result<Said<Outcome>, SubjectError> {
        let Some(terms) = terms else { return Ok(Said::Nothing) };
        Ok(self.outcome(index, model, &terms)?.map_or(Said::Unknown, Said::Value))
    }

    fn probe(&mut self, index: usize, model: &Model) -> Result<Score, SubjectError> {
        let seen = self.seen;
        let measured = &seen.measured[index];
        let (probe, limits) = (&measured.probe, &seen.limits);
        let mut score = Score::default();
        let Some(honest) = self.honest[index].clone() else { return Ok(score) };
        let batch = model.seen(&probe.call(limits));
        let call = Call { batch: &batch, ..probe.call(limits) };
        let untold = probe.state == State::General && batch.micro_batches().any(model.untold);
        let gradient = if untold { Said::Unknown } else { self.said(index, model, (model.gradient)(&call))? };
        let loss = match model.loss {
            _ if untold => Said::Unknown,
            Some(terms) => match self.said(index, model, terms(&call))? {
                Said::Value(outcome) => Said::Value(outcome.loss),
                Said::Nothing => Said::Nothing,
                Said::Unknown => Said::Unknown,
            },
            None => match &gradient {
                Said::Value(outcome) => Said::Value(outcome.loss),
                Said::Nothing => Said::Nothing,
                Said::Unknown => Said::Unknown,
            },
        };
        let tolerance = self.tolerance();
        let here = |what: &str| format!("{} of {} under {}", what, probe.name, probe.spec);
        let numbers = Numbers { tolerance, floor: 0.0 };
        let loss_fit = match loss {
            _ if model.cancels && probe.state == State::Offset => {
                let right = numbers.same_number(measured.loss, honest.loss);
                if right { Fit::Poorly } else { Fit::Loosely }
            }
            Said::Value(expected) if numbers.same_number(measured.loss, expected) => Fit::Exactly,
            Said::Value(_) => Fit::Not,
            Said::Nothing if measured.loss.is_nan() => Fit::Exactly,
            Said::Nothing => Fit::Not,
            Said::Unknown if numbers.same_number(measured.loss, honest.loss) => Fit::Poorly,
            Said::Unknown => Fit::Loosely,
        };
        score.add(loss_fit, || here("the loss"));
        let other = match (model.operators, &gradient) {
            (Operators::Weighed(_, terms), Said::Value(_)) => match self.said(index, model, terms(&call))? {
                Said::Value(outcome) => Some(outcome.gradient),
                _ => None,
            },
            _ => None,
        };
        let layers = seen.parameters.iter().filter(|p| p.name.ends_with("mlp.c_proj.weight")).count();
        let expected = match &gradient {
            Said::Value(outcome) => outcome,
            Said::Nothing | Said::Unknown => &honest,
        };
        let floor = expected.norm() / 1024.0;
        let numbers = Numbers { tolerance, floor };
        for parameter in &seen.parameters {
            let name = parameter.name.as_str();
            let Some(honest_values) = expected.gradient.get(name) else { continue };
            let found = measured.gradient.get(name).map_or(&[][..], Vec::as_slice);
            let beside = Beside {
                call: &call,
                name,
                shape: &parameter.shape,
                honest: honest_values,
                measured: found,
                layers,
                tolerance,
                floor,
            };
            let fit =
                match (&gradient, model.operators) {
                    (Said::Nothing, _) if found.iter().any(|value| value.is_nan()) => Fit::Exactly,
                    // libtorch's mean over nothing has a loss that is no number and a gradient that is.
                    (Said::Nothing, _) => Fit::Loosely,
                    (Said::Unknown, _) if numbers.same(found, honest_values) => Fit::Poorly,
                    (Said::Unknown, _) => Fit::Loosely,
                    (Said::Value(_), _) if found.len() != honest_values.len() => Fit::Not,
                    (Said::Value(_), Operators::Honest) => numbers.fit(found, honest_values),
                    (Said::Value(_), Operators::Exact(change)) => {
                        let mut values = honest_values.clone();
                        let former = measured.former.as_ref().and_then(|former| former.get(name));
                        change(name, &parameter.shape, &mut values, former.map(Vec::as_slice));
                        numbers.fit(found, &values)
                    }
                    (Said::Value(_), Operators::Weighed(picks, _)) if picks(name) => {
                        match other.as_ref().and_then(|other| other.get(name)) {
                            Some(values) => numbers.fit(found, values),
                            None => Fit::Not,
                        }
                    }
                    (Said::Value(_), Operators::Weighed(..)) => numbers.fit(found, honest_values),
                    (Said::Value(_), Operators::Pattern(fits)) => {
                        if found.iter().all(|value| value.is_finite()) { fits(&beside) } else { Fit::Not }
                    }
                };
            score.add(fit, || here(&format!("the gradient of {name}")));
        }
        Ok(score)
    }

    fn validation(&self, validation: &Validation, model: &Model, score: &mut Score) {
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

    /// What is wrong with a validation, in words.
    pub(super) fn strange_validation(&self) -> Option<String> {
        let mut score = Score::default();
        self.validation(self.seen.validation.as_ref()?, &Model::HONEST, &mut score);
        score.against
    }

    fn steps(&mut self, mistake: Mistake) -> Score {
        if let Some((_, score)) = self.steps.iter().find(|(known, _)| *known == mistake) {
            return score.clone();
        }
        let mut score = Score::default();
        for run in &self.seen.runs {
            self.run(run, mistake, &mut score);
        }
        self.steps.push((mistake, score.clone()));
        score
    }

    fn run(&self, run: &Run, mistake: Mistake, score: &mut Score) {
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
                score.add(fit, || what(of));
            }
            if let (Some(expected), Some(found)) = (expected.skipped, shown.skipped) {
                score.add(if expected == found { Fit::Exactly } else { Fit::Not }, || {
                    what("whether it was taken")
                });
            }
            self.moved(&expected, shown, &window.before, &mut |fit, name| {
                score.add(fit, || what(&format!("the update of {name}")));
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
            let floor = 64.0 * self.seen.dtype.unit_roundoff() / self.tolerance() * size(before);
            let numbers = Numbers { tolerance: self.tolerance(), floor };
            add(numbers.fit(&moves(found), &moves(expected)), name);
        }
    }
}

/// Comparisons to half of a dtype's digits.
#[derive(Clone, Copy)]
struct Numbers {
    tolerance: f64,
    /// The smallest norm that a difference is relative to.
    floor: f64,
}

fn size(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

impl Numbers {
    fn same_number(self, found: f64, expected: f64) -> bool {
        found.to_bits() == expected.to_bits()
            || found.is_nan() && expected.is_nan()
            || (found - expected).abs() <= self.tolerance * expected.abs()
    }

    fn same(self, found: &[f64], expected: &[f64]) -> bool {
        if found.len() != expected.len() {
            return false;
        }
        // What is no number must be none on both sides.
        if found.iter().chain(expected).any(|value| !value.is_finite()) {
            return found.iter().zip(expected).all(|(a, b)| a.is_finite() == b.is_finite());
        }
        let apart: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        size(&apart) <= self.tolerance * size(expected).max(self.floor)
    }

    fn fit(self, found: &[f64], expected: &[f64]) -> Fit {
        if self.same(found, expected) { Fit::Exactly } else { Fit::Not }
    }
}

pub(super) fn tolerance(dtype: Dtype) -> f64 {
    dtype.unit_roundoff().sqrt()
}

fn largest(dtype: Dtype) -> f64 {
    if dtype == Dtype::F64 { f64::MAX } else { f64::from(f32::MAX) }
}

/// Whether a model's attention is the one seen. Where a document's rows are padding, nothing is asked.
fn sees_as(model: &Model, sight: &Sight) -> bool {
    sight.depends.iter().enumerate().all(|(position, depends)| {
        sight.sequence.segment_ids()[position] == 0
            || depends.iter().enumerate().all(|(input, depends)| {
                (model.attends)(&sight.sequence, position, input).is_none_or(|expected| expected == *depends)
            })
    })
}

/// Where attention is not what it should be: position and input.
pub(super) fn strange_sight(sight: &Sight) -> Option<(usize, usize, bool)> {
    sight.depends.iter().enumerate().find_map(|(position, depends)| {
        let real = sight.sequence.segment_ids()[position] > 0;
        let mut inputs = depends.iter().enumerate();
        let strange =
            inputs.find(|(input, d)| real && **d != honest_attention(&sight.sequence, position, *input));
        strange.map(|(input, depends)| (position, input, *depends))
    })
}
