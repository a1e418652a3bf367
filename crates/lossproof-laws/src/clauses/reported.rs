//! Clause 4.7: what a trainer reports of a batch beside the gradient.

use crate::trial::{CaseOutcome, Computed, Ended, TOKEN_COUNT, Trial};
use lossproof_cases::edit::{alone, cut_off};
use lossproof_numerics::norm;
use lossproof_spec::{GlobalBatch, LossSpec, Reduction, Sequence};
use lossproof_subject::{LogPolicy, Observation};
use rand::RngExt;

/// The logged loss is the one of the log policy, `Σ_t u_t·ℓ_t`, at the parameters the gradient was taken at;
/// tokens are counted by the layout; and token losses that are reported are the same.
///
/// Where the trainer evaluates token losses, ℓ is what it evaluates. Otherwise the loss of every sequence by
/// itself says what `Σ ℓ` over the sequence is: one micro-batch by itself is logged alike under every policy.
pub(crate) fn reported_loss(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let policy = trial.facts.info.log_policy;
    let drawn = trial.spec(&[&batch])?;
    let logged = policy.logged(&batch, &drawn);
    let drawn = trial.spec(&[&batch].into_iter().chain(&logged).collect::<Vec<_>>())?;
    let plain = trial.facts.claim(&LossSpec { label_smoothing: 0.0, z_loss: 0.0, ..drawn });
    // Evaluation is of the plain token loss. Another policy's loss under label smoothing and z-loss is looked
    // at here and in no other law.
    let modified = plain != Some(drawn) && policy != LogPolicy::Window && trial.random.random::<bool>();
    let plain = plain.filter(|_| trial.subject.token_losses().is_some() && !modified);
    let (evaluates, spec) = (plain.is_some(), plain.unwrap_or(drawn));

    let actual = trial.gradient(&spec, &batch)?;
    trial.counts(&spec.to_string(), &batch, &actual.observation);
    let weights = policy.weights(&batch, &spec).map_err(|_| Ended::NotApplicable)?;
    let (expected, scale) = if evaluates {
        let evaluated = trial.token_losses(&batch)?;
        trial.witnessed(&spec, &actual, &evaluated);
        weighed(&batch, &weights, &supervised(&batch, &evaluated))
    } else {
        trial.ordered(&spec, &actual)?;
        trial.sum_of_lone_sequences(&spec, &batch, &weights)?
    };
    let bound = trial.loss_bound(&batch);
    let losses = (actual.loss(), expected);
    trial.number(&format!("{spec}: reported loss"), "loss", bound, losses, scale);
    if let Some(reported) = &actual.observation.token_losses
        && reported.len() == batch.layout().supervised()
    {
        let (expected, scale) = weighed(&batch, &weights, reported);
        let what = format!("{spec}: reported loss of the reported token losses");
        trial.number(&what, "loss", bound, (actual.loss(), expected), scale);
    }
    let sequences = batch.sequences().count();
    let tells = if evaluates { spec.reduction != Reduction::Sum || sequences > 1 } else { sequences > 1 };
    Ok(tells && weights.iter().any(|weight| *weight > 0.0))
}

impl Trial<'_> {
    /// Holds the count of supervised tokens that is reported to the layout.
    pub(super) fn counts(&mut self, what: &str, batch: &GlobalBatch, reported: &Observation) {
        let supervised = batch.layout().supervised();
        if let Some(counted) = reported.supervised_tokens {
            self.fact(TOKEN_COUNT, counted == supervised, || {
                format!("{what}: {counted} supervised tokens are reported of {supervised}")
            });
        }
    }

    /// Holds the losses of all supervised tokens to others.
    pub(super) fn same_token_losses(
        &mut self,
        what: &str,
        batch: &GlobalBatch,
        found: &[f64],
        expected: &[f64],
    ) {
        if found.is_empty() && expected.is_empty() {
            return;
        }
        // The error of a confident prediction's loss is that of its logits.
        let sizes: Vec<f64> = expected.iter().map(|loss| loss.abs().max(1.0)).collect();
        let bound = self.loss_bound(batch);
        self.elements(what, "token losses", bound, found, expected, norm(&sizes));
    }

    /// Holds token losses that are reported beside the gradient to those of every prediction that are
    /// evaluated.
    fn witnessed(&mut self, spec: &LossSpec, computed: &Computed, evaluated: &[f64]) {
        if let Some(reported) = &computed.observation.token_losses {
            let batch = &computed.origin.batch;
            let what = format!("{spec}: token losses beside the gradient");
            self.same_token_losses(&what, batch, reported, &supervised(batch, evaluated));
        }
    }

    /// Holds token losses that are reported beside the gradient to those reported of every sequence by itself, in
    /// the order of the batch, and the first half of one sequence to the whole of it: token losses that nobody
    /// evaluates could stand in any order otherwise.
    fn ordered(&mut self, spec: &LossSpec, computed: &Computed) -> Result<(), Ended> {
        let batch = &computed.origin.batch;
        let Some(reported) = &computed.observation.token_losses else { return Ok(()) };
        let mut expected = Vec::new();
        for sequence in batch.sequences().filter(|sequence| sequence.supervised() > 0) {
            let Some(losses) = self.reported_alone(spec, sequence)? else { return Ok(()) };
            expected.extend(losses);
        }
        let what = format!("{spec}: token losses beside the gradient, and of each sequence by itself");
        self.same_token_losses(&what, batch, reported, &expected);
        let limits = self.facts.info.limits;
        let Some(longest) = batch.sequences().max_by_key(|sequence| sequence.supervised()) else {
            return Ok(());
        };
        let half = cut_off(longest, longest.len().div_ceil(2).max(limits.lengths.least));
        if half.supervised() == 0 {
            return Ok(());
        }
        let (whole, part) = (self.reported_alone(spec, longest)?, self.reported_alone(spec, &half)?);
        if let (Some(whole), Some(part)) = (whole, part)
            && let Some(start) = whole.get(..part.len())
        {
            let what = format!("{spec}: token losses beside the gradient, of a sequence and its first half");
            self.same_token_losses(&what, batch, start, &part);
        }
        Ok(())
    }

    /// The token losses that are reported of a sequence by itself.
    fn reported_alone(&mut self, spec: &LossSpec, sequence: &Sequence) -> Result<Option<Vec<f64>>, Ended> {
        let lone = self.lone(spec, sequence)?;
        let losses = lone.and_then(|lone| lone.computed.observation.token_losses);
        // All copies of the sequence have them.
        Ok(losses.map(|losses| losses.into_iter().take(sequence.supervised()).collect()))
    }

    /// `Σ_i u_i·(sum of token losses of sequence i)` and what its error is relative to, from the loss of each
    /// sequence by itself.
    fn sum_of_lone_sequences(
        &mut self,
        spec: &LossSpec,
        batch: &GlobalBatch,
        weights: &[f64],
    ) -> Result<(f64, f64), Ended> {
        let (mut total, mut scale) = (0.0, 0.0);
        for (sequence, weight) in batch.sequences().zip(weights) {
            if *weight <= 0.0 {
                continue;
            }
            // Whatever is logged of copies of one sequence is a multiple of its token losses.
            let alone = alone(sequence, &self.facts.info.limits);
            let computed = self.gradient(spec, &alone)?;
            let logged =
                self.facts.info.log_policy.weights(&alone, spec).map_err(|_| Ended::NotApplicable)?;
            let factor = weight / logged.iter().sum::<f64>();
            total += factor * computed.loss();
            scale += factor * computed.loss_scale();
        }
        Ok((total, scale))
    }
}

/// Those of the supervised predictions, of the losses of all predictions.
fn supervised(batch: &GlobalBatch, losses: &[f64]) -> Vec<f64> {
    let mut of_supervised = Vec::new();
    for (prediction, loss) in batch.predictions().zip(losses) {
        if prediction.supervised {
            of_supervised.push(*loss);
        }
    }
    of_supervised
}

/// `Σ_t u_t·ℓ_t` of the supervised tokens, `u` by sequence, and `Σ_t u_t·max(ℓ_t, 1)`, which its error is
/// relative to.
fn weighed(batch: &GlobalBatch, weights: &[f64], losses: &[f64]) -> (f64, f64) {
    let (mut total, mut scale) = (0.0, 0.0);
    let predictions = batch.predictions().filter(|prediction| prediction.supervised);
    for (prediction, loss) in predictions.zip(losses) {
        let weight = weights[prediction.sequence];
        total += weight * loss;
        scale += weight * loss.abs().max(1.0);
    }
    (total, scale)
}
