//! What was asked of a rank for good: it holds for every step until something else is asked.

use crate::{World, share};
use lossproof_spec::{GlobalBatch, LossSpec, Optimizer};
use lossproof_subject::{Observation, StepReport, Subject, SubjectError, TensorSet};

/// The loss spec of a rank and the loss scale of its optimizer.
pub(crate) struct InForce {
    pub(crate) spec: LossSpec,
    /// `None` where no optimizer was started, or parameters were loaded since.
    loss_scale: Option<f64>,
}

impl InForce {
    /// A loss spec, and no optimizer.
    pub(crate) fn new(spec: LossSpec) -> Self {
        Self { spec, loss_scale: None }
    }

    /// An optimizer was started.
    pub(crate) fn start(&mut self, optimizer: &Optimizer) {
        self.loss_scale = Some(optimizer.loss_scale);
    }

    /// The trainer has forgotten its optimizer: it was reset, was given parameters, or trained by itself.
    pub(crate) fn forget_optimizer(&mut self) {
        self.loss_scale = None;
    }

    /// Forward and backward of a batch, with this rank's share of it.
    ///
    /// # Errors
    /// When this rank fails, or another.
    pub(crate) fn accumulate(
        &self,
        world: &World,
        subject: &mut dyn Subject,
        batch: &GlobalBatch,
    ) -> Result<(TensorSet, Observation), SubjectError> {
        share::accumulate(world, subject, &self.spec, batch, 1.0)
    }

    /// An optimizer step.
    ///
    /// # Errors
    /// When no optimizer was started, this rank fails, or another, or one has other parameters than the first after it.
    pub(crate) fn step(
        &self,
        world: &World,
        subject: &mut dyn Subject,
        batch: &GlobalBatch,
    ) -> Result<StepReport, SubjectError> {
        let missing = || SubjectError::failed("ranks", "no optimizer was started");
        share::step(world, subject, &self.spec, batch, self.loss_scale.ok_or_else(missing)?)
    }
}
