//! A trainer in which one part is wrong, as a subject.

use crate::{
    honest::{Honest, PassResult, TrainerMemory, hand_over, lacking},
    model::WrittenOutGpt2,
    rules::TensorMoments,
    trainer::{Differentiated, StepCounts, TrainerParts},
};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Optimizer};
use lossproof_subject::{
    Evaluated, Evaluation, GradientSink, LoadParameters, Observation, OptimizerSteps, ParameterInfo, Subject,
    SubjectError, SubjectInfo, TensorSet, TokenLosses, Unsupported, UpstreamWeights,
};

/// A trainer over an honest subject.
pub(crate) struct Faulty {
    pub(crate) honest: Honest,
    pub(crate) trainer: TrainerParts,
    /// The declared semantics.
    declared: LossSpec,
    pub(crate) started: Option<RunningOptimizer>,
}

/// An optimizer that was started.
pub(crate) struct RunningOptimizer {
    pub(crate) optimizer: Optimizer,
    pub(crate) counted: StepCounts,
    /// Optimizer state by update and parameter, in their order.
    pub(crate) moments: Vec<Vec<TensorMoments>>,
}

impl Faulty {
    pub(crate) fn new(subject: Box<dyn Subject>, trainer: TrainerParts) -> Self {
        let subject = match trainer.operators {
            Some(operators) => Box::new(WrittenOutGpt2::new(subject, operators)),
            None => subject,
        };
        let declared = subject.info().claims.first();
        let honest = Honest { subject, logits: trainer.logits, memory: TrainerMemory::default() };
        Self { honest, trainer, declared, started: None }
    }

    /// The semantics that is computed.
    pub(crate) fn spec(&self) -> LossSpec {
        (self.trainer.spec)(&self.declared, &self.honest.limits())
    }

    /// The batch behind the data path.
    pub(crate) fn seen(&self, batch: &GlobalBatch) -> GlobalBatch {
        let limits = self.honest.limits();
        batch.map_sequences(|sequence| (self.trainer.sequence)(sequence, &limits))
    }

    /// Forward and backward on a batch that was seen.
    pub(crate) fn pass(&mut self, batch: &GlobalBatch) -> Result<PassResult, SubjectError> {
        let spec = self.spec();
        self.honest.limits().check(batch)?;
        self.honest.memory.passes += 1;
        let mut pass = (self.trainer.accumulate)(&mut self.honest, &spec, batch)?;
        let differentiated = Differentiated { spec: &spec, batch, upstream: None };
        self.backward(&differentiated, &mut pass)?;
        Ok(pass)
    }

    fn backward(&mut self, of: &Differentiated<'_>, pass: &mut PassResult) -> Result<(), SubjectError> {
        self.honest.through_logits(&mut pass.gradient);
        (self.trainer.backward)(&mut self.honest, of, &mut pass.gradient)
    }

    fn forget(&mut self) {
        self.started = None;
        self.honest.memory = TrainerMemory::default();
    }
}

impl Subject for Faulty {
    fn info(&self) -> SubjectInfo {
        self.honest.subject.info()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.honest.subject.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.forget();
        self.honest.subject.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.honest.subject.configure(spec)?;
        self.declared = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let pass = self.pass(&self.seen(batch))?;
        hand_over(&*self.honest.subject, &pass.gradient, gradients)?;
        Ok(pass.observation)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        self.honest.subject.parameter_loading().is_some().then_some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        self.honest.subject.token_losses().is_some().then_some(self)
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        self.honest.subject.upstream_weights().is_some().then_some(self)
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        let subject = &mut self.honest.subject;
        (subject.optimizer_steps().is_some() && subject.parameter_loading().is_some()).then_some(self)
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        self.honest.subject.evaluation().is_some().then_some(self)
    }
}

impl Evaluation for Faulty {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let seen = |batch: &MicroBatch| self.seen(&GlobalBatch::of_micro_batch(batch.clone()));
        let seen: Vec<GlobalBatch> = batches.iter().map(seen).collect();
        let batches: Vec<MicroBatch> = seen.iter().flat_map(GlobalBatch::micro_batches).cloned().collect();
        (self.trainer.validate)(&mut self.honest, &batches)
    }
}

impl LoadParameters for Faulty {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        self.forget();
        let name = self.info().name;
        let loader = self.honest.subject.parameter_loading();
        loader.ok_or_else(|| lacking(&name, "loading parameters"))?.load(parameters)
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        self.honest.set(name, values)
    }
}

impl TokenLosses for Faulty {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        self.honest.evaluate(&self.seen(batch))
    }
}

impl UpstreamWeights for Faulty {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        let (spec, batch, mut weights) = (self.spec(), self.seen(batch), weights.to_vec());
        (self.trainer.upstream)(&mut weights);
        let mut pass = self.honest.weighted(&spec, &batch, &weights)?;
        let differentiated = Differentiated { spec: &spec, batch: &batch, upstream: Some(&weights) };
        self.backward(&differentiated, &mut pass)?;
        hand_over(&*self.honest.subject, &pass.gradient, gradients)?;
        Ok(pass.observation.loss)
    }
}
