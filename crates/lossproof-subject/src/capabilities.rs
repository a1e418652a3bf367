//! What a subject can do beyond a forward and backward pass: taking parameters, token losses, weighted token losses.

use crate::{GradientSink, SubjectError, TensorSet};
use lossproof_spec::GlobalBatch;

/// The capability to take parameters from outside.
pub trait LoadParameters {
    /// Replaces every parameter; these become the initial parameters
    /// [`Subject::reset`](crate::Subject::reset) returns to.
    ///
    /// # Errors
    /// When a parameter is missing, unknown, of another shape or not finite; then nothing has changed.
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError>;

    /// Replaces the values (row-major, rounded to the trainer's dtype) of one parameter until the next
    /// [`Subject::reset`](crate::Subject::reset) or [`load`](Self::load).
    ///
    /// # Errors
    /// When there is no such parameter, or the number of values is not its size.
    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError>;
}

/// The capability to evaluate token losses without a backward pass.
pub trait TokenLosses {
    /// `−log p(target)` for every prediction of the batch, the ignored ones included, in the order of
    /// [`GlobalBatch::predictions`]. Plain cross-entropy, whatever loss spec is configured.
    ///
    /// # Errors
    /// When the batch is outside the subject's [`Limits`](crate::Limits) or the trainer fails.
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError>;
}

/// The capability to differentiate any weighted sum of token losses: the backward pass from a given upstream gradient.
pub trait UpstreamWeights {
    /// Forward and backward of `Σ_t u_t·ℓ_t` over the whole batch, `weights` holding `u_t` for every
    /// prediction in the order of [`GlobalBatch::predictions`]; those of ignored predictions are not looked
    /// at. The token losses are those of the loss spec in force (label smoothing, z-loss); nothing else of it
    /// plays a part. Returns the weighted sum and hands the gradient over as
    /// [`Subject::accumulate`](crate::Subject::accumulate) does.
    ///
    /// # Errors
    /// When the number of weights is not that of the predictions, the batch is outside the subject's
    /// [`Limits`](crate::Limits), or the trainer fails.
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError>;
}

/// In an `impl Subject`: says that the implementing type itself has these capabilities.
///
/// Each becomes the method of [`Subject`](crate::Subject) that answers for it.
/// `capabilities!(LoadParameters, Evaluation)` is
///
/// ```
/// # use lossproof_subject::{Evaluation, LoadParameters};
/// # trait Answers {
/// fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters>;
/// fn evaluation(&mut self) -> Option<&mut dyn Evaluation>;
/// # }
/// ```
///
/// with `Some(self)` as their answers.
#[macro_export]
macro_rules! capabilities {
    ($($capability:ident),+ $(,)?) => { $($crate::capabilities!(@ $capability);)+ };
    (@ LoadParameters) => { $crate::capabilities!(@ parameter_loading LoadParameters); };
    (@ TokenLosses) => { $crate::capabilities!(@ token_losses TokenLosses); };
    (@ UpstreamWeights) => { $crate::capabilities!(@ upstream_weights UpstreamWeights); };
    (@ OptimizerSteps) => { $crate::capabilities!(@ optimizer_steps OptimizerSteps); };
    (@ Evaluation) => { $crate::capabilities!(@ evaluation Evaluation); };
    (@ Objectives) => { $crate::capabilities!(@ objectives Objectives); };
    (@ RankShares) => { $crate::capabilities!(@ rank_shares RankShares); };
    (@ TrainingLoop) => { $crate::capabilities!(@ training_loop TrainingLoop); };
    (@ $method:ident $capability:ident) => {
        fn $method(&mut self) -> Option<&mut dyn $crate::$capability> {
            Some(self)
        }
    };
}
