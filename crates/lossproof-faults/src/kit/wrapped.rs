//! A subject with hooks on its way in and out.

use super::{Capability, HandedOver, Hooks};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Optimizer};
use lossproof_subject::{
    Evaluated, Evaluation, GradientSink, LoadParameters, ObjectiveBatch, ObjectiveKind, Objectives,
    Observation, OptimizerSteps, ParameterInfo, StepReport, Subject, SubjectError, SubjectInfo, TensorSet,
    TokenLosses, Unsupported, UpstreamWeights,
};

/// A subject that does what the one inside it does, but for what its hooks change.
pub struct Wrapped<S> {
    inner: Box<dyn Subject>,
    state: S,
    hooks: Hooks<S>,
}

/// Wraps a subject into hooks that begin with this state.
#[must_use]
pub fn wrap<S: 'static>(inner: Box<dyn Subject>, state: S, hooks: Hooks<S>) -> Box<dyn Subject> {
    Box::new(Wrapped { inner, state, hooks })
}

/// A subject that shows loss and gradient and has no capability beyond that.
#[must_use]
pub fn bare(inner: Box<dyn Subject>) -> Box<dyn Subject> {
    wrap(inner, (), Hooks { offers: |(), _, _| false, ..Hooks::IDENTITY })
}

impl<S> Wrapped<S> {
    fn offers(&self, capability: Capability, inside: bool) -> bool {
        (self.hooks.offers)(&self.state, capability, inside)
    }

    fn seen(&mut self, batch: &GlobalBatch) -> GlobalBatch {
        (self.hooks.batch)(&mut self.state, batch)
    }
}

impl<S: 'static> Subject for Wrapped<S> {
    fn info(&self) -> SubjectInfo {
        (self.hooks.info)(&self.state, self.inner.info())
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        (self.hooks.parameters)(&self.state, self.inner.parameters())
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        (self.hooks.reset)(&mut self.state, &mut *self.inner)
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        (self.hooks.configure)(&mut self.state, &mut *self.inner, spec)
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let batch = self.seen(batch);
        let mut handed = HandedOver::default();
        let mut observation =
            (self.hooks.accumulate)(&mut self.state, &mut *self.inner, &batch, &mut handed)?;
        (self.hooks.gradient)(&mut self.state, &batch, &mut handed);
        handed.hand_over(gradients)?;
        (self.hooks.observation)(&mut self.state, &batch, &mut observation);
        Ok(observation)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        let inside = self.inner.parameter_loading().is_some();
        self.offers(Capability::Parameters, inside).then_some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        let inside = self.inner.token_losses().is_some();
        self.offers(Capability::TokenLosses, inside).then_some(self)
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        let inside = self.inner.upstream_weights().is_some();
        self.offers(Capability::UpstreamWeights, inside).then_some(self)
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        let inside = self.inner.optimizer_steps().is_some();
        self.offers(Capability::OptimizerSteps, inside).then_some(self)
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        let inside = self.inner.evaluation().is_some();
        self.offers(Capability::Evaluation, inside).then_some(self)
    }

    fn objectives(&mut self) -> Option<&mut dyn Objectives> {
        let inside = self.inner.objectives().is_some();
        self.offers(Capability::Objectives, inside).then_some(self)
    }
}

impl<S: 'static> LoadParameters for Wrapped<S> {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        (self.hooks.load)(&mut self.state, &mut *self.inner, parameters)
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        (self.hooks.set)(&mut self.state, &mut *self.inner, name, values)
    }
}

impl<S: 'static> TokenLosses for Wrapped<S> {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        let batch = self.seen(batch);
        let mut losses = (self.hooks.evaluate)(&mut self.state, &mut *self.inner, &batch)?;
        (self.hooks.token_losses)(&mut self.state, &batch, &mut losses);
        Ok(losses)
    }
}

impl<S: 'static> UpstreamWeights for Wrapped<S> {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        let batch = self.seen(batch);
        let mut handed = HandedOver::default();
        let loss = (self.hooks.backward)(&mut self.state, &mut *self.inner, &batch, weights, &mut handed)?;
        (self.hooks.gradient)(&mut self.state, &batch, &mut handed);
        handed.hand_over(gradients)?;
        Ok(loss)
    }
}

impl<S: 'static> OptimizerSteps for Wrapped<S> {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        (self.hooks.start)(&mut self.state, &mut *self.inner, optimizer)
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let batch = self.seen(batch);
        let mut report = (self.hooks.step)(&mut self.state, &mut *self.inner, &batch)?;
        (self.hooks.report)(&mut self.state, &batch, &mut report);
        Ok(report)
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let mut handed = HandedOver::default();
        (self.hooks.read)(&mut self.state, &mut *self.inner, &mut handed)?;
        handed.hand_over(parameters)?;
        Ok(())
    }
}

impl<S: 'static> Evaluation for Wrapped<S> {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let mut seen = Vec::new();
        for batch in batches {
            let batch = self.seen(&GlobalBatch::of_micro_batch(batch.clone()));
            seen.extend(batch.micro_batches().cloned());
        }
        let mut printed = (self.hooks.validate)(&mut self.state, &mut *self.inner, &seen)?;
        (self.hooks.printed)(&mut self.state, &seen, &mut printed);
        Ok(printed)
    }
}

impl<S: 'static> Objectives for Wrapped<S> {
    fn learns(&mut self, kind: ObjectiveKind) -> bool {
        self.inner.objectives().is_some_and(|objectives| objectives.learns(kind))
    }

    fn learn(
        &mut self,
        batch: &ObjectiveBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let mut handed = HandedOver::default();
        let observation = (self.hooks.learn)(&mut self.state, &mut *self.inner, batch, &mut handed)?;
        let global = GlobalBatch::of_micro_batch(batch.micro_batch().clone());
        (self.hooks.gradient)(&mut self.state, &global, &mut handed);
        handed.hand_over(gradients)?;
        Ok(observation)
    }
}
