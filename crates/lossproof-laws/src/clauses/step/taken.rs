//! Steps as a trainer takes them by itself, and the gradients it should have taken them with.

use crate::trial::{Computed, Ended, Trial};
use lossproof_spec::{GlobalBatch, LossSpec, Optimizer};
use lossproof_subject::{Collect, StepReport, TensorSet};

/// One step that was taken, and the parameters around it.
pub(crate) struct TakenStep {
    pub(crate) before: TensorSet,
    pub(crate) after: TensorSet,
    pub(crate) report: StepReport,
}

impl Trial<'_> {
    /// The parameters as they are.
    pub(crate) fn read(&mut self) -> Result<TensorSet, Ended> {
        let mut sink = Collect::default();
        self.steps()?.read(&mut sink)?;
        Ok(sink.into_tensors())
    }

    /// Starts the optimizer and takes a step on every window. Between the steps parameters are read and
    /// nothing else is asked of the trainer: what a step leaves behind, such as a gradient that it does not
    /// clear, is there in the next one as it would be in training.
    pub(crate) fn take_steps(
        &mut self,
        optimizer: &Optimizer,
        spec: &LossSpec,
        windows: &[&GlobalBatch],
    ) -> Result<Vec<TakenStep>, Ended> {
        for window in windows {
            self.facts.info.limits.check(window)?;
            if !self.weighs(spec, window) {
                return Err(Ended::NotApplicable);
            }
        }
        self.start(optimizer, spec)?;
        let mut before = self.read()?;
        let mut taken = Vec::new();
        for window in windows {
            let step = self.step(spec, window, before)?;
            before = step.after.clone();
            taken.push(step);
        }
        Ok(taken)
    }

    /// Starts the optimizer.
    pub(crate) fn start(&mut self, optimizer: &Optimizer, spec: &LossSpec) -> Result<(), Ended> {
        self.subject.configure(spec)?;
        Ok(self.steps()?.start(optimizer)?)
    }

    /// Takes one step from these parameters, which are those in force.
    pub(crate) fn step(
        &mut self,
        spec: &LossSpec,
        window: &GlobalBatch,
        before: TensorSet,
    ) -> Result<TakenStep, Ended> {
        let answer = self.steps()?.step(window);
        let report = self.answered(spec, window, answer)?;
        let after = self.read()?;
        // What was computed so far was computed at other parameters.
        self.loads += 1;
        Ok(TakenStep { before, after, report })
    }

    /// What the trainer accumulates on every window at the parameters from which its step was taken. They are
    /// loaded. A trainer that loads none is reset, and takes the steps before this one again.
    pub(crate) fn replay(
        &mut self,
        optimizer: &Optimizer,
        spec: &LossSpec,
        windows: &[&GlobalBatch],
        taken: &[TakenStep],
    ) -> Result<Vec<Computed>, Ended> {
        let mut computed = Vec::new();
        for (k, (window, step)) in windows.iter().zip(taken).enumerate() {
            if self.subject.parameter_loading().is_some() {
                self.load(&step.before)?;
            } else {
                self.return_to_the_trial()?;
                let again = self.take_steps(optimizer, spec, &windows[..k])?;
                let there = match again.last() {
                    Some(last) => last.after.clone(),
                    None => self.read()?,
                };
                if self.facts.noise <= 0.0 {
                    self.fact("reset", there == step.before, || {
                        format!("after a reset, the first {k} steps lead to other parameters than before")
                    });
                }
            }
            computed.push(self.gradient(spec, window)?);
        }
        Ok(computed)
    }

    /// Puts the parameters of the trial in force again, after steps have moved them.
    pub(crate) fn return_to_the_trial(&mut self) -> Result<(), Ended> {
        if self.subject.parameter_loading().is_none() {
            self.loads += 1;
            return Ok(self.subject.reset()?);
        }
        let parameters = match &self.loaded {
            Some(loaded) => loaded.clone(),
            None => self.parameters()?,
        };
        self.load(&parameters)
    }
}
