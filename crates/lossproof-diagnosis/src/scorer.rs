//! Scores hypotheses: what their models forecast, held to what was seen.

use crate::{
    anomalies::{NEGLIGIBLE, gradient_anomalies},
    behaviour::{score_run, score_validation},
    call::{Term, TrainerCall, honest_terms},
    examination::{Examination, ProbeResult},
    gradient_comparison::GradientComparison,
    half_digits::{Forecast, HalfDigits},
    measuring::load,
    probe_parameters::ProbeParameters,
    probes::ProbeState,
    score::{Grade, Score},
    simulated_optimizer::StepMistake,
    trainer_model::{BackwardEffect, TrainerModel},
    truth::{LossAndGradient, by_reference, in_closed_form},
};
use lossproof_subject::{Subject, SubjectError};

/// What was seen of a subject, and the truths that hypotheses forecast it with.
pub(crate) struct Scorer<'a, 'r> {
    pub(crate) seen: &'a Examination,
    parameters: &'a ProbeParameters,
    reference: Option<&'r mut (dyn Subject + 'r)>,
    /// Whether the reference has the general parameters.
    loaded: bool,
    /// By probe: what an honest trainer gives, where somebody can tell.
    pub(crate) honest: Vec<Option<LossAndGradient>>,
    /// By probe: the sums that it is made from.
    terms: Vec<Option<Vec<Term>>>,
    /// How many parameters have a gradient that is not what it should be on some probe.
    deviating: usize,
    /// Scores of the steps, by mistake.
    steps: Vec<(StepMistake, Score)>,
}

impl<'a, 'r> Scorer<'a, 'r> {
    /// # Errors
    /// When the reference fails.
    pub(crate) fn new(
        seen: &'a Examination,
        parameters: &'a ProbeParameters,
        reference: Option<&'r mut (dyn Subject + 'r)>,
    ) -> Result<Self, SubjectError> {
        let count = seen.results.len();
        let (honest, terms) = (vec![None; count], vec![None; count]);
        let (deviating, steps) = (0, Vec::new());
        let mut scorer = Self { seen, parameters, reference, loaded: false, honest, terms, deviating, steps };
        for (index, result) in seen.results.iter().enumerate() {
            let terms = honest_terms(&result.probe.call(&seen.limits));
            if let Some(terms) = &terms {
                scorer.honest[index] = scorer.truth(index, &TrainerModel::HONEST, terms)?;
            }
            scorer.terms[index] = terms;
        }
        scorer.deviating = gradient_anomalies(seen, &scorer.honest).len();
        Ok(scorer)
    }

    /// How well the model of a hypothesis agrees with what was seen.
    ///
    /// # Errors
    /// When the reference fails.
    pub(crate) fn score(&mut self, model: &TrainerModel) -> Result<Score, SubjectError> {
        let seen = self.seen;
        let mut score = Score::default();
        for (index, result) in seen.results.iter().enumerate() {
            self.score_probe(index, result, model, &mut score)?;
        }
        for dependence in &seen.dependences {
            let grade = Grade::exact_or_impossible(dependence.is_that_of(model));
            score.add(grade, || "who attends to whom".to_owned());
        }
        if let Some(validation) = &seen.validation {
            score_validation(validation, model, (seen.dtype, &seen.limits), &mut score);
        }
        if matches!(model.backward, BackwardEffect::OfOne(_)) && self.deviating != 1 {
            let what = || format!("that the gradients of {} parameters are wrong", self.deviating);
            score.add(Grade::Impossible, what);
        }
        if let Some(repeatable) = seen.repeatable {
            let grade = Grade::exact_or_impossible(repeatable == model.repeatable);
            score.add(grade, || "the same call twice".to_owned());
        }
        if model.repeatable {
            score.merge(&self.score_of_steps(model.step));
        }
        Ok(score)
    }

    /// What these sums and their gradients are on a probe; `None` where nobody can tell.
    fn truth(
        &mut self,
        index: usize,
        model: &TrainerModel,
        terms: &[Term],
    ) -> Result<Option<LossAndGradient>, SubjectError> {
        // Most hypotheses say of most probes what an honest trainer does.
        if model.kernel.is_none() && self.terms[index].as_deref() == Some(terms) {
            return Ok(self.honest[index].clone());
        }
        let state = self.seen.results[index].probe.state;
        if let Some(known) = self.parameters.known_logits(state) {
            return Ok(in_closed_form(known, model.kernel, terms));
        }
        let Some(reference) = self.reference.as_deref_mut() else { return Ok(None) };
        if !self.loaded {
            load(reference, self.parameters.general())?;
            self.loaded = true;
        }
        by_reference(reference, model.kernel, terms)
    }

    fn forecast(
        &mut self,
        index: usize,
        model: &TrainerModel,
        terms: Option<Vec<Term>>,
    ) -> Result<Forecast<LossAndGradient>, SubjectError> {
        let Some(terms) = terms else { return Ok(Forecast::NoNumber) };
        Ok(self.truth(index, model, &terms)?.map_or(Forecast::Unsaid, Forecast::Value))
    }

    /// Holds a probe's loss and gradients to what a model forecasts.
    fn score_probe(
        &mut self,
        index: usize,
        result: &ProbeResult,
        model: &TrainerModel,
        score: &mut Score,
    ) -> Result<(), SubjectError> {
        let Some(honest) = self.honest[index].clone() else { return Ok(()) };
        let (seen, probe) = (self.seen, &result.probe);
        let batch = model.seen(&probe.call(&seen.limits));
        let call = TrainerCall { batch: &batch, ..probe.call(&seen.limits) };
        let unsaid = probe.state == ProbeState::General && batch.micro_batches().any(model.unsaid);
        let gradient =
            if unsaid { Forecast::Unsaid } else { self.forecast(index, model, (model.gradient)(&call))? };
        let loss = match model.loss {
            Some(terms) if !unsaid => {
                self.forecast(index, model, terms(&call))?.map(|reported| reported.loss)
            }
            _ => gradient.as_ref().map(|optimised| optimised.loss),
        };
        // The offset rounds away what the kernel cancels, by an amount that is rounding's.
        let cancelled = model.cancels && probe.state == ProbeState::Offset;
        let loss = if cancelled { Forecast::Unsaid } else { loss };
        let half_digits = HalfDigits::of(seen.dtype);
        let here = |what: &str| format!("{what} of {} under {}", probe.name, probe.spec);
        let grade = half_digits.grade_forecast(result.loss, &loss, honest.loss);
        score.add(grade, || here("the loss"));

        let otherwise = match model.backward {
            BackwardEffect::Weighed(_, terms) if !unsaid => self.forecast(index, model, terms(&call))?,
            _ => Forecast::Unsaid,
        };
        let layers = seen.parameters.iter().filter(|p| p.name.ends_with("mlp.c_proj.weight")).count();
        let expected = gradient.as_ref().value().unwrap_or(&honest);
        let half_digits = HalfDigits { floor: expected.norm() / NEGLIGIBLE, ..half_digits };
        for parameter in &seen.parameters {
            let name = parameter.name.as_str();
            let Some(values) = expected.gradient.get(name) else { continue };
            let comparison = GradientComparison {
                call: &call,
                name,
                shape: &parameter.shape,
                honest: values,
                measured: result.gradient.get(name).map_or(&[][..], Vec::as_slice),
                former: result.former.as_ref().and_then(|former| former.get(name)).map(Vec::as_slice),
                layers,
                half_digits,
            };
            let otherwise = otherwise.as_ref().value().and_then(|weighed| weighed.gradient.get(name));
            let grade = match &gradient {
                // Exponentials of the offset that overflow take the gradient with them.
                Forecast::Value(_) if cancelled && !comparison.is_finite() => Grade::Loose,
                Forecast::Value(_) => model.backward.grade(&comparison, otherwise.map(Vec::as_slice)),
                Forecast::NoNumber => comparison.grade_no_number(),
                Forecast::Unsaid => half_digits.grade_wrong(comparison.measured, values),
            };
            score.add(grade, || here(&format!("the gradient of {name}")));
        }
        Ok(())
    }

    fn score_of_steps(&mut self, mistake: StepMistake) -> Score {
        if let Some((_, score)) = self.steps.iter().find(|(known, _)| *known == mistake) {
            return score.clone();
        }
        let mut score = Score::default();
        for run in &self.seen.runs {
            score_run(run, mistake, (self.seen.dtype, &self.seen.parameters), &mut score);
        }
        self.steps.push((mistake, score.clone()));
        score
    }
}
