//! Clauses 7.5 and 7.7: factors on the gradient that must leave no trace.

use super::{overflow::overflow, taken::TakenStep};
use crate::trial::{CaseOutcome, Ended, Trial};
use lossproof_spec::{Adam, LossSpec, Optimizer, Rule};

/// A gradient multiplied by c changes Adam exactly as ε divided by c does: to the bit where c is a power of
/// two. The norm shows c.
pub(crate) fn adam_scale(trial: &mut Trial<'_>) -> CaseOutcome {
    if trial.facts.noise > 0.0 {
        return Err(Ended::Unsupported("repeatable gradients, which Adam needs".to_owned()));
    }
    let supervised = trial.case.batch.layout().supervised();
    if supervised < 2 {
        return Ok(false);
    }
    // The sum is N times the mean: with a power of two of tokens, to the bit.
    let keep = 1_usize << supervised.ilog2();
    let mut left = keep;
    let batch = trial.case.batch.map_sequences(|sequence| {
        sequence.supervise_only(|position| {
            let kept = sequence.supervises(position) && left > 0;
            left -= usize::from(kept);
            kept
        })
    });
    let sum = trial.claimed(&trial.with_token_loss(LossSpec::sum()))?;
    let mean = trial.claimed(&trial.with_token_loss(LossSpec::token_mean()))?;
    // Exact in every dtype, and after division by c too.
    let epsilon = 2.0_f64.powi(-20);
    let numbers = Adam { weight_decay: 0.0, ..trial.adam_numbers() };
    let rate = trial.adam_rate();
    let mut runs = Vec::new();
    for (spec, epsilon) in [(sum, epsilon), (mean, epsilon / keep as f64)] {
        let rule = trial.offered(Rule::Adam, Adam { epsilon, ..numbers })?;
        trial.return_to_the_trial()?;
        runs.push(trial.take_steps(&Optimizer { rule, ..Optimizer::sgd(rate) }, &spec, &[&batch; 3])?);
    }
    trial.return_to_the_trial()?;
    let [of_sum, of_mean] = &runs[..] else { return Err(Ended::NotApplicable) };
    let ends = |run: &[TakenStep]| run.last().map(|last| last.after.clone());
    trial.fact("scaled epsilon", ends(of_sum) == ends(of_mean), || {
        format!("three Adam steps with a gradient {keep} times as large and ε {keep} times as large differ")
    });
    let bound = trial.whole_gradient_bound(&batch);
    for (large, small) in of_sum.iter().zip(of_mean) {
        let expected = small.report.grad_norm * keep as f64;
        let norms = (large.report.grad_norm, expected);
        trial.number("norm of the larger gradient", "grad norm", bound, norms, expected);
    }
    Ok(true)
}

/// A loss scale leaves no trace: a power of two not a bit. A scale that overflows skips the step, and the
/// optimizer and its schedule wait.
pub(crate) fn loss_scaling(trial: &mut Trial<'_>) -> CaseOutcome {
    if trial.facts.noise > 0.0 {
        return Err(Ended::Unsupported("repeatable gradients".to_owned()));
    }
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let rule = trial.simplest_rule(&spec, &batch)?;
    let mut runs = Vec::new();
    for loss_scale in [1.0, 1024.0] {
        trial.return_to_the_trial()?;
        let optimizer = Optimizer { loss_scale, warm_up: 4, ..rule };
        runs.extend(trial.take_steps(&optimizer, &spec, &[&batch])?);
    }
    let [plain, scaled] = &runs[..] else { return Err(Ended::NotApplicable) };
    trial.fact("loss scale", plain.after == scaled.after, || {
        "a loss scale of 1024 changes the step".to_owned()
    });
    let bound = trial.loss_bound(&batch);
    let losses = (scaled.report.observation.loss, plain.report.observation.loss);
    trial.number("reported loss under a loss scale", "loss", bound, losses, losses.1.abs());
    let bound = trial.whole_gradient_bound(&batch);
    let norms = (scaled.report.grad_norm, plain.report.grad_norm);
    trial.number("norm under a loss scale", "grad norm", bound, norms, norms.1);
    let skipped = overflow(trial)?;
    Ok(trial.moves() && skipped)
}
