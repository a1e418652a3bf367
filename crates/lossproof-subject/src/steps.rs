//! What a trainer reports of an optimizer step, and the capability to take one.

use crate::{GradientSink, Observation, SubjectError, Unsupported};
use lossproof_spec::{GlobalBatch, Optimizer};

/// What a trainer reports of one optimizer step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Loss and counts of the batch.
    pub observation: Observation,
    /// The learning rate that was used.
    pub learning_rate: f64,
    /// Norm of the whole gradient before clipping, the loss scale undone.
    pub grad_norm: f64,
    /// The same of each parameter, in the order of [`Subject::parameters`](crate::Subject::parameters).
    pub tensor_norms: Vec<f64>,
    /// What the gradient was multiplied with.
    pub clip_factor: f64,
    /// Whether the step was skipped because the gradient was not finite.
    pub skipped: bool,
}

/// The capability to take optimizer steps.
///
/// [`Subject::reset`](crate::Subject::reset) also forgets the optimizer: the next step needs a [`start`](Self::start).
pub trait OptimizerSteps {
    /// Declares the optimizer and starts it afresh, without state and at step 0. Parameters stay as they are.
    ///
    /// # Errors
    /// [`Unsupported`] when the trainer has no such optimizer; then none is in force.
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported>;

    /// One optimizer step on one global batch, under the loss spec in force.
    ///
    /// # Errors
    /// When no optimizer was started, the batch is outside the subject's limits, or the trainer fails. Then
    /// no parameter has changed.
    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError>;

    /// Hands the current parameters to a sink of tensors, as [`Subject::accumulate`](crate::Subject::accumulate) does
    /// with gradients.
    ///
    /// # Errors
    /// When the trainer fails or the sink refuses a tensor.
    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError>;
}
