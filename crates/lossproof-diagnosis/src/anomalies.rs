//! What is seen of a subject that an honest trainer would not show.

use crate::{
    behaviour::{score_run, score_validation},
    examination::{Examination, ProbeResult},
    half_digits::{HalfDigits, NEGLIGIBLE},
    optimizer_runs::OptimizerRun,
    score::Score,
    simulated_optimizer::StepMistake,
    trainer_model::TrainerModel,
    truth::HonestAnswer,
    validation::honest,
};
use std::rc::Rc;

/// The loss of a probe beside the honest one, in words, where the two differ.
pub(crate) fn loss_anomaly(
    seen: &Examination,
    result: &ProbeResult,
    honest: Option<&HonestAnswer>,
) -> Option<String> {
    let (probe, found, due) = (&result.probe, result.loss, honest?.reported);
    let same = HalfDigits::of(seen.dtype).same_number(found, due);
    let digits = if format!("{found:.6}") == format!("{due:.6}") { 16 } else { 6 };
    let words = || {
        format!(
            "{} under {}: the loss is {found:.digits$} where {due:.digits$} is right",
            probe.name, probe.spec
        )
    };
    (!same).then(words)
}

/// The parameters whose gradient is not the honest one on some probe, `honest` holding what an honest trainer
/// gives by probe.
pub(crate) fn gradient_anomalies(seen: &Examination, honest: &[Option<Rc<HonestAnswer>>]) -> Vec<String> {
    let differs = |name: &str| {
        seen.results.iter().zip(honest).any(|(result, honest)| {
            let Some(honest) = honest.as_ref().map(|honest| &honest.optimised) else { return false };
            let half_digits = HalfDigits { floor: honest.norm() / NEGLIGIBLE, ..HalfDigits::of(seen.dtype) };
            let pair = result.gradient.get(name).zip(honest.gradient.get(name));
            pair.is_some_and(|(found, due)| !half_digits.same(found, due))
        })
    };
    let names = seen.parameters.iter().map(|parameter| &parameter.name);
    names.filter(|name| differs(name)).cloned().collect()
}

/// The first thing that is wrong in a run, in words.
pub(crate) fn step_anomaly(seen: &Examination, run: &OptimizerRun) -> Option<String> {
    let mut score = Score::default();
    score_run(run, StepMistake::None, (seen.dtype, &seen.parameters), &mut score);
    score.first_against
}

/// What is wrong with the validation, in words.
pub(crate) fn validation_anomaly(seen: &Examination) -> Option<String> {
    let mut score = Score::default();
    let validation = seen.validation.as_ref()?;
    let sound = TrainerModel { validate: Some(honest), ..TrainerModel::HONEST };
    score_validation(validation, &sound, (seen.dtype, &seen.limits), &mut score);
    score.first_against
}
