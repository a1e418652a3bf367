//! The trainer under test, as lossproof sees it.

use crate::{
    Evaluation, GradientSink, LoadParameters, Objectives, Observation, OptimizerSteps, ParameterInfo,
    ParameterSource, RankShares, SubjectError, SubjectInfo, TensorSet, TokenLosses, TrainingLoop,
    Unsupported, UpstreamWeights,
};
use lossproof_spec::{GlobalBatch, LossSpec};

/// A trainer under test. The reference and libtorch go through this door as a stranger's trainer would.
pub trait Subject {
    /// What this is.
    fn info(&self) -> SubjectInfo;

    /// The trainable parameters with their roles, which Hugging Face's names imply and others declare, in a fixed
    /// order. A tied parameter appears once.
    fn parameters(&self) -> Vec<ParameterInfo>;

    /// Back to the initial parameters: no gradient, no optimizer state.
    ///
    /// # Errors
    /// When the trainer cannot be brought back.
    fn reset(&mut self) -> Result<(), SubjectError>;

    /// Declares the loss semantics [`accumulate`](Self::accumulate) is to implement from now on. A trainer
    /// with one loss has nothing to choose and leaves this as it is.
    ///
    /// # Errors
    /// [`Unsupported`] when its [`Claims`](crate::Claims) do not have such semantics; the former spec stays
    /// in force.
    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        let info = self.info();
        if info.claims.claim_of(spec, &info.limits).is_some() { Ok(()) } else { Err(info.unsupported(spec)) }
    }

    /// Forward and backward over every rank and micro-batch of one optimizer step, without taking the step.
    ///
    /// The gradient the optimizer would see goes to `gradients`, one tensor at a time, each parameter exactly
    /// once, also where it is zero, in the trainer's own dtype and under the names of [`parameters`](Self::parameters).
    ///
    /// # Errors
    /// When the batch is outside the subject's [`Limits`](crate::Limits), the empty policy says so, or the
    /// trainer fails.
    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError>;

    /// The capability to take parameters from outside, when the trainer has it.
    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        None
    }

    /// The capability to evaluate token losses without a backward pass, when the trainer has it.
    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        None
    }

    /// The capability to differentiate any weighted sum of token losses, when the trainer has it.
    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        None
    }

    /// The capability to take optimizer steps, when the trainer has it.
    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        None
    }

    /// The capability to evaluate a corpus as a validation does, when the trainer has it.
    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        None
    }

    /// The capability to learn something else than the next token, when the trainer has it.
    fn objectives(&mut self) -> Option<&mut dyn Objectives> {
        None
    }

    /// The capability to compute one rank of a step whose others are elsewhere, when the trainer has it.
    fn rank_shares(&mut self) -> Option<&mut dyn RankShares> {
        None
    }

    /// The capability to run a whole training, when the trainer has a loop.
    fn training_loop(&mut self) -> Option<&mut dyn TrainingLoop> {
        None
    }
}

/// Replaces the parameters of a subject that has room for a second copy of them.
///
/// # Errors
/// When the subject takes no parameters or refuses one, or one cannot be read.
pub fn load_all(subject: &mut dyn Subject, source: &dyn ParameterSource) -> Result<(), SubjectError> {
    let mut parameters = TensorSet::new();
    for (name, _) in source.shapes() {
        let tensor = source.read(&name)?;
        parameters.insert(name, tensor);
    }
    let name = subject.info().name;
    let lacking =
        SubjectError::Failed { subject: name, message: "it takes no parameters from outside".to_owned() };
    subject.parameter_loading().ok_or(lacking)?.load(&parameters)
}
