//! Clause 7.9: what is asked of a trainer between two steps.

use super::overflow::WARM_UP;
use crate::clauses::evaluation::batches;
use crate::trial::{CaseOutcome, Computed, Ended, Trial};
use lossproof_spec::{GlobalBatch, LossSpec, Optimizer};
use lossproof_subject::Evaluated;

/// Steps between which something is asked.
const STEPS: usize = 3;

/// What a trainer answers at one point of its training.
struct Answers {
    accumulated: Computed,
    token_losses: Option<Vec<f64>>,
    validated: Option<Evaluated>,
}

/// Accumulation, evaluation and validation between steps leave no trace in the steps, and are answered at
/// the parameters that the steps have led to.
pub(crate) fn between_steps(trial: &mut Trial<'_>) -> CaseOutcome {
    if trial.facts.noise > 0.0 {
        return Err(Ended::Unsupported("repeatable gradients".to_owned()));
    }
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let Some(rule) = trial.rule_with_state()? else { return Ok(false) };
    let optimizer = Optimizer { rule, warm_up: WARM_UP, ..Optimizer::sgd(trial.adam_rate()) };
    let undisturbed = trial.take_steps(&optimizer, &spec, &[&batch; STEPS])?;
    trial.return_to_the_trial()?;
    let mut disturbed = Vec::new();
    let mut answers = Vec::new();
    trial.start(&optimizer, &spec)?;
    let mut before = trial.read()?;
    for _ in 0..STEPS {
        let step = trial.step(&spec, &batch, before)?;
        before = step.after.clone();
        disturbed.push(step);
        answers.push(trial.asked(&spec, &batch)?);
    }
    for (k, (step, expected)) in disturbed.iter().zip(&undisturbed).enumerate() {
        trial.fact("disturbed step", step.after == expected.after && step.report == expected.report, || {
            format!(
                "step {k} is another one where the trainer accumulates, evaluates and validates between steps"
            )
        });
    }
    if trial.subject.parameter_loading().is_some() {
        for (k, (step, found)) in undisturbed.iter().zip(&answers).enumerate() {
            trial.load(&step.after)?;
            let expected = trial.asked(&spec, &batch)?;
            trial.same_answers(k, &batch, found, &expected);
        }
    }
    trial.return_to_the_trial()?;
    Ok(trial.moves())
}

impl Trial<'_> {
    /// Asks everything that can be asked without a step.
    fn asked(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<Answers, Ended> {
        let accumulated = self.accumulated(spec, batch)?;
        let token_losses = match self.subject.token_losses() {
            Some(evaluator) => Some(evaluator.evaluate(batch)?),
            None => None,
        };
        let validated = match self.subject.evaluation() {
            Some(evaluation) => Some(evaluation.validate(&batches(batch))?),
            None => None,
        };
        Ok(Answers { accumulated, token_losses, validated })
    }

    /// Holds what was answered after a step to what is answered where its parameters are loaded.
    fn same_answers(&mut self, k: usize, batch: &GlobalBatch, found: &Answers, expected: &Answers) {
        let what = format!("after step {k}, against its parameters loaded");
        self.same(&what, batch, &found.accumulated, &expected.accumulated);
        if let (Some(found), Some(expected)) = (&found.token_losses, &expected.token_losses) {
            self.same_token_losses(&format!("{what}: token losses"), batch, found, expected);
        }
        if let (Some(found), Some(expected)) = (found.validated, expected.validated)
            && expected.loss.is_finite()
        {
            let losses = (found.loss, expected.loss);
            let scale = expected.loss.max(1.0);
            self.number(&format!("{what}: validation"), "loss", self.loss_bound(batch), losses, scale);
        }
    }
}
