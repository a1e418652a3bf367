//! How well a hypothesis fits what was seen.

use super::{
    behaviour::sees_as,
    beside::Beside,
    examination::Examination,
    model::{Call, Fit, Model, Operators, Term, honest_terms},
    numbers::{Numbers, Said, tolerance},
    oracle::{Outcome, Pinned, Reference},
    probes::State,
    score::Score,
    states::States,
    steps::Mistake,
};
use lossproof_subject::{Subject, SubjectError};

/// A gradient's norm over this is as good as nothing beside it.
const NEGLIGIBLE: f64 = 1024.0;

/// Predictions beside measurements.
pub(super) struct Judge<'a, 'r> {
    pub(super) seen: &'a Examination,
    states: &'a mut States,
    reference: Option<&'r mut (dyn Subject + 'r)>,
    /// Whether the reference has the parameters of the general state.
    loaded: bool,
    /// By probe: what an honest trainer gives, where somebody can tell.
    pub(super) honest: Vec<Option<Outcome>>,
    /// By probe: the sums that it is made from.
    terms: Vec<Option<Vec<Term>>>,
    /// Parameters whose gradient is not what it should be on some probe.
    deviating: usize,
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
        let (honest, terms) = (vec![None; count], vec![None; count]);
        let mut judge =
            Self { seen, states, reference, loaded: false, honest, terms, deviating: 0, steps: Vec::new() };
        for index in 0..count {
            let terms = honest_terms(&seen.measured[index].probe.call(&seen.limits));
            if let Some(terms) = &terms {
                judge.honest[index] = judge.outcome(index, &Model::HONEST, terms)?;
            }
            judge.terms[index] = terms;
        }
        judge.deviating = judge.strange_gradients().len();
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
        if matches!(model.operators, Operators::OfOne(_)) && self.deviating != 1 {
            score.add(Fit::Not, || format!("that the gradients of {} parameters are wrong", self.deviating));
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
        // Most hypotheses say of most probes what an honest trainer does.
        if model.kernel.is_none() && self.terms[index].as_deref() == Some(terms) {
            return Ok(self.honest[index].clone());
        }
        let state = self.seen.measured[index].probe.state;
        if let Some(pin) = self.states.pin(state) {
            Ok(pin.outcome(model.kernel, terms))
        } else if let Some(subject) = self.reference.as_deref_mut() {
            if !self.loaded {
                subject.reset()?;
                if let Some(loader) = subject.parameter_loading() {
                    loader.load(&self.states.general)?;
                }
                self.loaded = true;
            }
            Reference { subject }.outcome(model.kernel, terms)
        } else {
            Ok(None)
        }
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

    /// Holds a probe's loss and gradients to what a model predicts.
    fn probe(&mut self, index: usize, model: &Model) -> Result<Score, SubjectError> {
        let seen = self.seen;
        let measured = &seen.measured[index];
        let probe = &measured.probe;
        let mut score = Score::default();
        let Some(honest) = self.honest[index].clone() else { return Ok(score) };
        let batch = model.seen(&probe.call(&seen.limits));
        let call = Call { batch: &batch, ..probe.call(&seen.limits) };
        let untold = probe.state == State::General && batch.micro_batches().any(model.untold);
        let gradient = if untold { Said::Unknown } else { self.said(index, model, (model.gradient)(&call))? };
        let loss = match model.loss {
            Some(terms) if !untold => self.said(index, model, terms(&call))?.map(|outcome| outcome.loss),
            _ => gradient.as_ref().map(|outcome| outcome.loss),
        };
        // The offset rounds away what the kernel cancels, by an amount that is rounding's.
        let loss = if model.cancels && probe.state == State::Offset { Said::Unknown } else { loss };
        let numbers = Numbers { tolerance: self.tolerance(), floor: 0.0 };
        let here = |what: &str| format!("{what} of {} under {}", probe.name, probe.spec);
        score.add(numbers.fit_number(measured.loss, &loss, honest.loss), || here("the loss"));

        let otherwise = match model.operators {
            Operators::Weighed(_, terms) if !untold => self.said(index, model, terms(&call))?,
            _ => Said::Unknown,
        };
        let layers = seen.parameters.iter().filter(|p| p.name.ends_with("mlp.c_proj.weight")).count();
        let expected = gradient.as_ref().value().unwrap_or(&honest);
        let numbers = Numbers { floor: expected.norm() / NEGLIGIBLE, ..numbers };
        for parameter in &seen.parameters {
            let name = parameter.name.as_str();
            let Some(values) = expected.gradient.get(name) else { continue };
            let beside = Beside {
                call: &call,
                name,
                shape: &parameter.shape,
                honest: values,
                measured: measured.gradient.get(name).map_or(&[][..], Vec::as_slice),
                former: measured.former.as_ref().and_then(|former| former.get(name)).map(Vec::as_slice),
                layers,
                numbers,
            };
            let otherwise = otherwise.as_ref().value().and_then(|outcome| outcome.gradient.get(name));
            let overflows = model.cancels && probe.state == State::Offset;
            let fit = match &gradient {
                // Exponentials of the offset that overflow take the gradient with them.
                Said::Value(_) if overflows && !beside.is_finite() => Fit::Loosely,
                Said::Value(_) => beside.fit(&model.operators, otherwise.map(Vec::as_slice)),
                Said::Nothing => beside.fit_nothing(),
                Said::Unknown => numbers.fit_unknown(beside.measured, values),
            };
            score.add(fit, || here(&format!("the gradient of {name}")));
        }
        Ok(score)
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
}
