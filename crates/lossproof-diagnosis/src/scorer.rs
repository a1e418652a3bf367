//! Scores hypotheses: what their models forecast, held to what was seen.

mod forecasts;

use crate::{
    anomalies::gradient_anomalies,
    behaviour::{score_run, score_validation},
    call::{Semantics, TrainerCall},
    examination::{Examination, ProbeResult},
    gradient_comparison::{GradientComparison, Place},
    half_digits::{Forecast, HalfDigits, NEGLIGIBLE},
    probe_parameters::ProbeParameters,
    probes::ProbeState,
    reference::Reference,
    relations::{RelationScorer, RelationTerms},
    repeated_calls::Repeated,
    reported_loss::Summed,
    score::{Grade, Score, UNKNOWN},
    simulated_optimizer::StepMistake,
    trainer_model::{BackwardEffect, TokenGradients, TrainerModel},
    truth::{HonestAnswer, LossAndGradient},
    weighed::{Weighed, WeighedCall},
};
use lossproof_spec::GlobalBatch;
use lossproof_subject::{LogPolicy, Subject, SubjectError};
use std::{ptr::fn_addr_eq, rc::Rc};

/// A probe as it was weighed, and what was forecast of that.
type LastForecast = (Rc<Weighed>, Forecast<Rc<LossAndGradient>>);

/// What was seen of a subject, and the truths that hypotheses forecast it with.
pub(crate) struct Scorer<'a, 'r> {
    pub(crate) seen: &'a Examination,
    parameters: &'a ProbeParameters,
    reference: Option<Reference<'a, 'r>>,
    /// The semantics that models have.
    semantics: Semantics,
    /// By probe: what an honest trainer gives, where somebody can tell.
    pub(crate) honest: Vec<Option<Rc<HonestAnswer>>>,
    /// By probe: how well its gradients agree with those of an honest trainer, once somebody has asked. Most
    /// hypotheses forecast these of most probes.
    honest_gradient_scores: Vec<Option<Score>>,
    /// By probe: how models weigh it.
    weighed: Vec<WeighedCall>,
    /// By probe: what the last sums were that no kernel changes, with how they were weighed. Every mistake is tried
    /// twice in a row, with its own loss logged and with the right one.
    last: Vec<Option<LastForecast>>,
    /// How many parameters have a gradient that is not what it should be on some probe.
    deviating: usize,
    /// Scores of the steps, by mistake.
    steps: Vec<(StepMistake, Score)>,
    /// The relations between calls, under the log policy.
    relations: RelationScorer<'a>,
}

impl<'a, 'r> Scorer<'a, 'r> {
    /// # Errors
    /// When the reference fails.
    pub(crate) fn new(
        seen: &'a Examination,
        parameters: &'a ProbeParameters,
        reference: Option<&'r mut (dyn Subject + 'r)>,
    ) -> Result<Self, SubjectError> {
        let semantics = Semantics::as_asked(seen.log_policy);
        let (honest, honest_gradient_scores) =
            (vec![None; seen.results.len()], vec![None; seen.results.len()]);
        let (deviating, steps) = (0, Vec::new());
        let relations = relations(seen, semantics);
        let reference = reference.map(|reference| Reference::new(reference, parameters.general()));
        let mut scorer = Self {
            seen,
            parameters,
            reference,
            semantics,
            honest,
            honest_gradient_scores,
            weighed: Vec::new(),
            last: Vec::new(),
            deviating,
            steps,
            relations,
        };
        scorer.take_for(semantics)?;
        scorer.deviating = gradient_anomalies(seen, &scorer.honest).len();
        Ok(scorer)
    }

    /// How well the model of a hypothesis agrees with what was seen.
    ///
    /// # Errors
    /// When the reference fails.
    pub(crate) fn score(&mut self, model: &TrainerModel) -> Result<Score, SubjectError> {
        let mut score = self.score_without_relations(model)?;
        self.relations.score(model, &mut score);
        Ok(score)
    }

    /// How many things were seen that an honest trainer would not show. Related calls count once for each whose
    /// answer does not follow from those before it.
    ///
    /// # Errors
    /// When the reference fails.
    pub(crate) fn wrong(&mut self) -> Result<usize, SubjectError> {
        let elsewhere = self.score_without_relations(&TrainerModel::HONEST)?.unexplained();
        Ok(elsewhere + self.relations.surprises().len())
    }

    /// What a bug that nobody knows costs. It pays for everything that an honest trainer would not show, of related
    /// calls for each whose answer does not follow from those before it; or it lies in what is seen of a sequence,
    /// and pays for what it leaves open.
    ///
    /// # Errors
    /// When the reference fails.
    pub(crate) fn cost_of_unknown(&mut self) -> Result<f64, SubjectError> {
        let mut cost = UNKNOWN * self.wrong()? as f64;
        for model in TrainerModel::UNKNOWN_ATTENTION {
            let score = self.score(&model)?;
            if score.possible() {
                cost = cost.min(score.cost());
            }
        }
        Ok(cost)
    }

    fn score_without_relations(&mut self, model: &TrainerModel) -> Result<Score, SubjectError> {
        let seen = self.seen;
        let mut score = Score::default();
        for (index, result) in seen.results.iter().enumerate() {
            self.score_probe(index, result, model, &mut score)?;
        }
        for dependence in &seen.dependences {
            dependence.score(model, &mut score);
        }
        for losses in &seen.label_losses {
            losses.score(model, (&seen.limits, self.semantics.log_policy, seen.dtype), &mut score);
        }
        if let Some(validation) = &seen.validation {
            score_validation(validation, model, (seen.dtype, &seen.limits), &mut score);
        }
        if matches!(model.backward, BackwardEffect::OfOne(_)) && self.deviating != 1 {
            let what = || format!("that the gradients of {} parameters are wrong", self.deviating);
            score.add(Grade::Impossible, what);
        }
        if let Some(repeated) = seen.repeated {
            let grade = match (repeated, model.token_gradients) {
                // How a trainer's answers differ that does not repeat them is not forecast.
                (Repeated::Other { .. }, TokenGradients::Random) if repeated.may_be_dropout() => Grade::Loose,
                (Repeated::Twice, TokenGradients::Kept)
                | (Repeated::Same, TokenGradients::Same | TokenGradients::OfTheBatch) => Grade::Exact,
                _ => Grade::Impossible,
            };
            score.add(grade, || "the same call twice".to_owned());
        }
        for (parameter, missing) in seen.parameters.iter().zip(&seen.missing) {
            let grade = match (model.loses)(parameter.role).zip(*missing) {
                Some((expected, missing)) => Grade::exact_or_impossible(expected == missing),
                None => Grade::Exact,
            };
            score.add(grade, || format!("whether the gradient of {} is missing", parameter.name));
        }
        if model.token_gradients == TokenGradients::Random {
            // What it makes of steps cannot be said.
            score.unforecast(self.score_of_steps(StepMistake::None).unexplained());
        } else {
            score.merge(&self.score_of_steps(model.step));
        }
        Ok(score)
    }

    /// The semantics that models have.
    pub(crate) fn semantics(&self) -> Semantics {
        self.semantics
    }

    /// Holds models to the losses of these semantics, whatever the card declares.
    ///
    /// # Errors
    /// When the reference fails.
    pub(crate) fn take_for(&mut self, semantics: Semantics) -> Result<(), SubjectError> {
        let seen = self.seen;
        if semantics != self.semantics {
            self.relations = relations(seen, semantics);
        }
        self.semantics = semantics;
        self.weighed = seen.results.iter().map(|_| WeighedCall::default()).collect();
        self.last = vec![None; seen.results.len()];
        for (index, result) in seen.results.iter().enumerate() {
            let call = result.probe.call(&seen.limits, &semantics);
            self.honest[index] = self.honest_answer(index, &call)?.map(Rc::new);
            self.honest_gradient_scores[index] = None;
        }
        Ok(())
    }

    /// Whether every loss that was reported is the right one by a log policy, as far as somebody can tell.
    ///
    /// # Errors
    /// When the reference fails.
    pub(crate) fn logs_by(&mut self, policy: LogPolicy) -> Result<bool, SubjectError> {
        let seen = self.seen;
        let semantics = Semantics { log_policy: policy, ..self.semantics };
        let half_digits = HalfDigits::of(seen.dtype);
        let mut compared = 0;
        for (index, result) in seen.results.iter().enumerate() {
            let Some(honest) = self.honest[index].clone() else { continue };
            let (call, whole) =
                (result.probe.call(&seen.limits, &semantics), Forecast::Value(honest.optimised.loss));
            let TrainerModel { reports, gradient, .. } = TrainerModel::HONEST;
            let logged = reports.terms(gradient, &call);
            let differentiated = (honest.differentiated.terms.as_deref(), whole);
            let right = self.reported(index, None, logged.as_deref(), differentiated)?;
            match half_digits.grade_forecast(result.loss, &right, honest.reported) {
                Grade::Exact => compared += 1,
                Grade::Impossible => return Ok(false),
                // Nobody can tell.
                Grade::Loose | Grade::Poor => {}
            }
        }
        Ok(compared > 0)
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
        let (seen, probe, semantics) = (self.seen, &result.probe, self.semantics);
        let asked = probe.call(&seen.limits, &semantics);
        let weighed = self.weighed[index].by(model, Summed::Batch(model.gradient), &asked);
        let call = TrainerCall { batch: &weighed.batch, ..asked };
        let is_unsaid = |batch: &GlobalBatch| probe.state == ProbeState::General && model.is_unsaid(batch);
        let unsaid = is_unsaid(&weighed.batch);
        let gradient = if unsaid { Forecast::Unsaid } else { self.forecast(index, model.kernel, &weighed)? };
        // The offset rounds away what the kernel cancels, by an amount that is rounding's.
        let cancelled = model.cancels && probe.state == ProbeState::Offset;
        let causal = fn_addr_eq(model.sight, TrainerModel::HONEST.sight);
        let loss = if cancelled || !causal && call.logged().iter().any(is_unsaid) {
            Forecast::Unsaid
        } else {
            let optimised = gradient.as_ref().map(|optimised| optimised.loss);
            let logged = self.weighed[index].by(model, model.reports.summed(model.gradient), &asked);
            let differentiated = (weighed.terms.as_deref(), optimised);
            self.reported(index, model.kernel, logged.terms.as_deref(), differentiated)?
        };
        let half_digits = HalfDigits::of(seen.dtype);
        let here = |what: &str| format!("{what} of {} under {}", probe.name, probe.spec);
        let grade = half_digits.grade_forecast(result.loss, &loss, honest.reported);
        score.add(grade, || here("the loss"));

        let is_honest = |gradient: &Rc<LossAndGradient>| Rc::ptr_eq(gradient, &honest.optimised);
        let forecasts_honest = !cancelled
            && matches!(model.backward, BackwardEffect::Honest)
            && gradient.as_ref().value().is_some_and(is_honest);
        if let Some(known) = self.honest_gradient_scores[index].as_ref().filter(|_| forecasts_honest) {
            score.merge(known);
            return Ok(());
        }
        let otherwise = match model.backward {
            BackwardEffect::Weighed(_, weighing) if !unsaid => {
                let otherwise = self.weighed[index].by(model, Summed::Batch(weighing), &asked);
                self.forecast(index, model.kernel, &otherwise)?
            }
            _ => Forecast::Unsaid,
        };
        let mut of_gradients = Score::default();
        let expected = gradient.as_ref().value().unwrap_or(&honest.optimised);
        let half_digits = HalfDigits { floor: expected.norm() / NEGLIGIBLE, ..half_digits };
        for parameter in &seen.parameters {
            let name = parameter.name.as_str();
            let Some(values) = expected.gradient.get(name) else { continue };
            // Where logits are known nothing in front of them has a part, and a tied embedding is the head alone.
            let place = match probe.state {
                ProbeState::General => Place::of(parameter, &seen.parameters),
                _ => Place::After,
            };
            let comparison = GradientComparison {
                call: &call,
                role: parameter.role,
                shape: &parameter.shape,
                tied: parameter.tied_to.is_some(),
                honest: values,
                measured: result.gradient.get(name).map_or(&[][..], Vec::as_slice),
                former: result.former.as_ref().and_then(|former| former.get(name)).map(Vec::as_slice),
                place,
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
            of_gradients.add(grade, || here(&format!("the gradient of {name}")));
        }
        score.merge(&of_gradients);
        if forecasts_honest {
            self.honest_gradient_scores[index] = Some(of_gradients);
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

/// The relations of a subject, if it has these semantics.
fn relations(seen: &Examination, semantics: Semantics) -> RelationScorer<'_> {
    let terms = RelationTerms { limits: &seen.limits, semantics, dtype: seen.dtype };
    RelationScorer::new(&seen.relations, terms)
}
