//! Steps held to the closed form of their update rule.

use super::taken::TakenStep;
use crate::trial::{Computed, Ended, Trial, values};
use lossproof_numerics::{Updated, norm};
use lossproof_spec::{GlobalBatch, LossSpec, Optimizer, Rule};
use lossproof_subject::{Observation, StepReport, Tensor, TensorSet};

/// Roundings of one update that can add up. With `m` and `v` updated, corrected, divided, scaled and
/// subtracted there are about a dozen, each within one unit round-off of a term that the magnitudes bound; a
/// square root halves what is under it.
const ROUNDINGS: f64 = 32.0;

/// Roundings that every earlier step has left. A moment `β·m + (1 − β)·d` errs by three unit round-offs of its
/// magnitude M and by β times what it erred before; since `β·M` of the step before is at most M, k steps leave
/// `3·k·M`. The second moment does the same, and the root halves it.
const ROUNDINGS_OF_A_STEP: f64 = 4.5;

/// Roundings of an update after so many steps.
pub(crate) fn roundings_of_update(steps: u32) -> f64 {
    ROUNDINGS + ROUNDINGS_OF_A_STEP * f64::from(steps)
}

/// Roundings of a clip factor or a learning rate: a few operations on numbers in f64, reported in the
/// trainer's dtype.
const ROUNDINGS_OF_A_FACTOR: f64 = 8.0;

impl Trial<'_> {
    /// Takes a step on every window and holds everything about each to the closed form: the parameters, and
    /// what the trainer reports. Returns the reports. The parameters of the trial are in force again
    /// afterwards.
    ///
    /// The spec is to have weights on all windows.
    pub(crate) fn closed_form_steps(
        &mut self,
        optimizer: &Optimizer,
        spec: &LossSpec,
        windows: &[&GlobalBatch],
    ) -> Result<Vec<StepReport>, Ended> {
        if self.facts.noise > 0.0 && !matches!(optimizer.rule, Rule::Sgd { .. }) {
            // Adam turns the noise of an element that should be zero into an update of full size.
            return Err(Ended::Unsupported("repeatable gradients, which Adam needs".to_owned()));
        }
        let taken = self.take_steps(optimizer, spec, windows)?;
        let replayed = self.replay(optimizer, spec, windows, &taken)?;
        let mut expected = Vec::new();
        for (name, tensor) in taken.iter().take(1).flat_map(|first| &first.before) {
            expected.push((name.clone(), Updated::new(tensor.to_f64(), tensor.shape().to_vec())));
        }
        for (k, ((window, step), computed)) in (0..).zip(windows.iter().zip(&taken).zip(&replayed)) {
            let what = format!("step {k}");
            let finite = computed.gradient.values().all(|tensor| tensor_norm(tensor).is_finite());
            self.fact("skipped step", !step.report.skipped || !finite, || {
                format!("{what} was skipped, and its gradient is finite")
            });
            self.norms(&what, window, &step.report, &computed.gradient);
            self.observed(&what, window, &step.report.observation, computed);
            let learning_rate = optimizer.learning_rate_at(k);
            let clip_factor = optimizer.clip.map_or(1.0, |clip| clip.factor(step.report.grad_norm));
            self.factor(&what, "learning rate", step.report.learning_rate, learning_rate);
            self.factor(&what, "clip factor", step.report.clip_factor, clip_factor);
            for (name, updated) in &mut expected {
                let mut gradient = values(&computed.gradient, name)?;
                for element in &mut gradient {
                    *element *= clip_factor;
                }
                updated.step(optimizer, learning_rate, &values(&step.before, name)?, &gradient);
                self.update(k, name, step, updated)?;
            }
        }
        self.return_to_the_trial()?;
        Ok(taken.into_iter().map(|step| step.report).collect())
    }

    /// Holds the update of one parameter in step k, from 0, to the closed form.
    fn update(&mut self, k: u32, name: &str, step: &TakenStep, expected: &Updated) -> Result<(), Ended> {
        let (before, after) = (values(&step.before, name)?, values(&step.after, name)?);
        let (mut moved, mut to_move) = (Vec::new(), Vec::new());
        for ((before, after), expected) in before.iter().zip(&after).zip(&expected.values) {
            moved.push(after - before);
            to_move.push(expected - before);
        }
        let roundings = roundings_of_update(k);
        let bound = roundings * self.facts.update_dtype(name).unit_roundoff() + self.facts.noise;
        let what = format!("step {k}: update of {name}");
        self.elements(&what, name, bound, &moved, &to_move, norm(&expected.magnitudes));
        Ok(())
    }

    /// Holds a number that the step multiplies with to what it should be.
    pub(crate) fn factor(&mut self, what: &str, unit: &str, found: f64, expected: f64) {
        let bound = ROUNDINGS_OF_A_FACTOR * self.facts.coarsest().unit_roundoff();
        self.number(&format!("{what}: {unit}"), unit, bound, (found, expected), expected);
    }

    /// Holds the reported norms to those of the gradient before clipping.
    fn norms(&mut self, what: &str, batch: &GlobalBatch, report: &StepReport, gradient: &TensorSet) {
        let mut expected = Vec::new();
        for parameter in &self.facts.parameters {
            expected.extend(gradient.get(&parameter.name).map(tensor_norm));
        }
        let total = norm(&expected);
        // A norm adds squares, all positive: its roundings are those of one sum, bounded as a gradient's are.
        let bound = self.whole_gradient_bound(batch);
        let found = (report.grad_norm, total);
        self.number(&format!("{what}: norm of the whole gradient"), "grad norm", bound, found, total);
        let what = format!("{what}: norms of the parameters' gradients");
        self.elements(&what, "tensor norms", bound, &report.tensor_norms, &expected, total);
    }

    /// Holds what a step reports of its batch to what the trainer reports where it only accumulates the
    /// batch, at the same parameters.
    fn observed(&mut self, what: &str, batch: &GlobalBatch, stepped: &Observation, accumulated: &Computed) {
        let losses = (stepped.loss, accumulated.loss());
        let bound = self.loss_bound(batch);
        self.number(&format!("{what}: logged loss"), "logged loss", bound, losses, accumulated.loss_scale());
        self.counts(what, batch, stepped);
        if let (Some(found), Some(expected)) = (&stepped.token_losses, &accumulated.observation.token_losses)
        {
            self.same_token_losses(&format!("{what}: token losses"), batch, found, expected);
        }
    }
}

/// The norm of all elements of a tensor.
pub(crate) fn tensor_norm(tensor: &Tensor) -> f64 {
    norm(&tensor.to_f64())
}
