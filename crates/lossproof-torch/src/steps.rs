//! Optimizer steps of the trainer.

use crate::{
    Failure,
    parameters::fill,
    started::{Started, all_finite, norms, unscaled},
    subject::Torch,
    threads::OneThread,
};
use lossproof_spec::{GlobalBatch, Optimizer};
use lossproof_subject::{
    GradientSink, Observation, OptimizerSteps, StepReport, SubjectError, TensorSet, Unsupported,
};
use tch::{TchError, Tensor};

impl OptimizerSteps for Torch {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        self.started = None;
        self.started = Some(Started::new(optimizer, &self.parameters)?);
        Ok(())
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        self.limits().check(batch)?;
        Ok(self.optimizer_step(batch)?)
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let live: Vec<_> = self.parameters.trained().map(|tensor| Some(tensor.shallow_clone())).collect();
        Ok(self.hand_over(live, parameters)?)
    }
}

impl Torch {
    fn optimizer_step(&mut self, batch: &GlobalBatch) -> Result<StepReport, Failure> {
        let loss_scale = self.started()?.declared.loss_scale;
        let (observation, scaled) = self.backward_of_step(batch, loss_scale)?;
        self.step_from_scaled(scaled, observation)
    }

    /// One step from the gradient of all ranks, which was added up elsewhere.
    pub(crate) fn step_of_ranks(
        &mut self,
        gradient: &TensorSet,
        observation: Observation,
    ) -> Result<StepReport, Failure> {
        let names = self.parameters.infos().iter().map(|info| info.name.clone());
        let names: Vec<String> = names.collect();
        let mut scaled: Vec<Tensor> =
            self.parameters.trained().map(Tensor::f_zeros_like).collect::<Result<_, _>>()?;
        fill(&mut scaled, &names, gradient)?;
        self.step_from_scaled(scaled.into_iter().map(Some).collect(), observation)
    }

    fn started(&self) -> Result<&Started, Failure> {
        self.started.as_ref().ok_or_else(|| {
            Failure::new(
                "no optimizer is in force: start one before the first step, and again after a reset, a load or a \
                 failed update"
                    .to_owned(),
            )
        })
    }

    /// One step from the gradient times the loss scale.
    fn step_from_scaled(
        &mut self,
        scaled: Vec<Option<Tensor>>,
        observation: Observation,
    ) -> Result<StepReport, Failure> {
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let started = self.started()?;
        let (declared, learning_rate) = (started.declared, started.learning_rate());
        let mut gradients = unscaled(scaled, self.parameters.trained(), declared.loss_scale)?;
        let (grad_norm, tensor_norms) = norms(&gradients)?;
        let skipped = !all_finite(&gradients)?;
        let mut clip_factor = 1.0;
        if !skipped {
            if let Some(clip) = declared.clip {
                clip_factor = clip.factor(grad_norm);
                for gradient in &mut gradients {
                    let _ = gradient.f_mul_scalar_(clip_factor)?;
                }
            }
            self.update(&gradients)?;
        }
        Ok(StepReport { observation, learning_rate, grad_norm, tensor_norms, clip_factor, skipped })
    }

    pub(crate) fn update(&mut self, gradients: &[Tensor]) -> Result<(), TchError> {
        self.parameters.keep_initial()?;
        if let Some(mut started) = self.started.take() {
            started.update(gradients)?;
            self.started = Some(started);
        }
        Ok(())
    }
}
