//! What a training loop drives: a trainer taken apart into the calls between which the loop decides.
//!
//! The loop decides which samples make a micro-batch, what its loss is multiplied with, when an update is due, at
//! which learning rate and with which parameters decayed. The trainer owns the forward and the backward pass, the
//! norms and the update rule with its moments.

use crate::{
    Collect, Dropout, GradientSink, LoadParameters, Observation, ParameterInfo, Subject, SubjectError,
    TensorSet, TrainingBatch, Unsupported,
};
use lossproof_spec::{LossSpec, Rule};
use std::collections::BTreeSet;

/// Everything that the next update depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainerState {
    /// Updates that were made: what Adam's bias correction counts.
    pub updates: u32,
    /// The trainable parameters.
    pub parameters: TensorSet,
    /// SGD's momentum or Adam's first moments; empty for a rule without.
    pub first_moments: TensorSet,
    /// Adam's second moments; empty for a rule without.
    pub second_moments: TensorSet,
}

/// A trainer that a loop drives.
///
/// [`Subject::reset`] also ends what was begun, and [loading](LoadParameters::load) parameters does.
pub trait LoopTrainer: Subject + LoadParameters {
    /// Begins with an update rule whose weight decay leaves the undecayed parameters out, whatever the rule says of
    /// shapes, and which leaves the frozen ones as they are; without moments or gradient. Parameters stay as they
    /// are.
    ///
    /// # Errors
    /// [`Unsupported`] when the trainer has no such rule or parameter; then nothing is begun.
    fn begin(
        &mut self,
        rule: &Rule,
        undecayed: &BTreeSet<String>,
        frozen: &BTreeSet<String>,
    ) -> Result<(), Unsupported>;

    /// Forward and backward of one micro-batch in training mode: `factor` times the gradient of its loss, reduced
    /// over the micro-batch as `loss` says, is added to the gradient. The loss itself is reported without the factor.
    ///
    /// # Errors
    /// When nothing was begun, the batch is outside the subject's limits, or the trainer fails; the gradient
    /// is of no more use then.
    fn backward(
        &mut self,
        batch: &TrainingBatch,
        loss: &LossSpec,
        factor: f64,
        dropout: &Dropout,
    ) -> Result<Observation, SubjectError>;

    /// The norm of each parameter's gradient, in the order of [`Subject::parameters`], in f64.
    ///
    /// # Errors
    /// When nothing was begun, or the trainer fails.
    fn gradient_norms(&mut self) -> Result<Vec<f64>, SubjectError>;

    /// Hands the gradient over, one parameter after the other.
    ///
    /// # Errors
    /// When nothing was begun, the trainer fails, or the sink refuses a tensor.
    fn read_gradient(&mut self, gradient: &mut dyn GradientSink) -> Result<(), SubjectError>;

    /// Replaces the gradient by this one, as an all-reduce does: every parameter under its name, in its shape.
    ///
    /// # Errors
    /// When nothing was begun, the trainer fails, or a tensor is missing, unknown or of another shape: then the
    /// gradient is what it was.
    fn write_gradient(&mut self, gradient: &TensorSet) -> Result<(), SubjectError>;

    /// One update at this learning rate, from the gradient times `factor`. The gradient stays.
    ///
    /// # Errors
    /// When nothing was begun, or the trainer fails; no parameter has changed then.
    fn update(&mut self, learning_rate: f64, factor: f64) -> Result<(), SubjectError>;

    /// Forgets the gradient.
    ///
    /// # Errors
    /// When nothing was begun, or the trainer fails.
    fn zero_gradient(&mut self) -> Result<(), SubjectError>;

    /// The plain cross-entropy of every supervised token in evaluation mode, in order: no dropout, no gradient,
    /// nothing changed.
    ///
    /// # Errors
    /// When the batch is outside the subject's limits, or the trainer fails.
    fn supervised_losses(&mut self, batch: &TrainingBatch) -> Result<Vec<f64>, SubjectError>;

    /// Hands the parameters over, one after the other.
    ///
    /// # Errors
    /// When the trainer fails, or the sink refuses a tensor.
    fn read_parameters(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError>;

    /// Hands moments over, one parameter after the other: nothing for a rule without them, zeros before the first
    /// update.
    ///
    /// # Errors
    /// When nothing was begun, the trainer fails, or the sink refuses a tensor.
    fn read_moments(&mut self, moment: Moment, moments: &mut dyn GradientSink) -> Result<(), SubjectError>;

    /// Updates made since it was begun, those before a restored state included.
    fn updates(&self) -> u32;

    /// Puts back a state that was read from a trainer of the same kind under the same rule.
    ///
    /// # Errors
    /// When nothing was begun, or the state is not one of this trainer; then nothing has changed.
    fn restore(&mut self, state: &TrainerState) -> Result<(), SubjectError>;
}

/// One of the two tensors that a rule remembers of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// SGD's momentum or Adam's first moment.
    First,
    /// Adam's second moment.
    Second,
}

impl Moment {
    /// Whether a rule has it.
    #[must_use]
    pub fn belongs_to(self, rule: &Rule) -> bool {
        match (rule, self) {
            (Rule::Adam(_) | Rule::AdamW(_), _) => true,
            (Rule::Sgd { momentum, .. }, Self::First) => *momentum > 0.0,
            (Rule::Sgd { .. }, Self::Second) => false,
        }
    }
}

/// The state of a trainer, whole.
///
/// # Errors
/// When nothing was begun, or the trainer fails.
pub fn state_of(trainer: &mut dyn LoopTrainer) -> Result<TrainerState, SubjectError> {
    let mut parts = [Collect::default(), Collect::default(), Collect::default()];
    trainer.read_parameters(&mut parts[0])?;
    trainer.read_moments(Moment::First, &mut parts[1])?;
    trainer.read_moments(Moment::Second, &mut parts[2])?;
    let [parameters, first_moments, second_moments] = parts.map(Collect::into_tensors);
    Ok(TrainerState { updates: trainer.updates(), parameters, first_moments, second_moments })
}

/// The gradient of a trainer, whole.
///
/// # Errors
/// When nothing was begun, or the trainer fails.
pub fn gradient_of(trainer: &mut dyn LoopTrainer) -> Result<TensorSet, SubjectError> {
    let mut gradient = Collect::default();
    trainer.read_gradient(&mut gradient)?;
    Ok(gradient.into_tensors())
}

/// Whether the tensors of a state are those of these parameters, under their names and of their shapes.
///
/// # Errors
/// Naming the first tensor that is not.
pub fn check_state(trainer: &dyn Subject, rule: &Rule, state: &TrainerState) -> Result<(), SubjectError> {
    let parameters = trainer.parameters();
    let has = |moment: Moment| moment.belongs_to(rule);
    let parts = [
        ("parameter", true, &state.parameters),
        ("first moment", has(Moment::First), &state.first_moments),
        ("second moment", has(Moment::Second), &state.second_moments),
    ];
    for (what, expected, tensors) in parts {
        if expected {
            check_tensors(&parameters, what, tensors)?;
        } else if let Some(name) = tensors.keys().next() {
            return Err(wrong(name, format!("has a {what}, which this update rule does not keep")));
        }
    }
    Ok(())
}

/// Whether a gradient is one of this trainer's parameters, under their names and of their shapes.
///
/// # Errors
/// Naming the first tensor that is not.
pub fn check_gradient(trainer: &dyn Subject, gradient: &TensorSet) -> Result<(), SubjectError> {
    check_tensors(&trainer.parameters(), "gradient", gradient)
}

fn wrong(name: &str, problem: String) -> SubjectError {
    SubjectError::Parameter { name: name.to_owned(), problem }
}

/// Whether there is one tensor of each parameter, of its shape, and no other.
fn check_tensors(parameters: &[ParameterInfo], what: &str, tensors: &TensorSet) -> Result<(), SubjectError> {
    for info in parameters {
        let tensor =
            tensors.get(&info.name).ok_or_else(|| wrong(&info.name, format!("there is no {what} of it")))?;
        if tensor.shape() != info.shape {
            let (found, shape) = (tensor.shape(), &info.shape);
            return Err(wrong(&info.name, format!("the {what} has shape {found:?}, expected {shape:?}")));
        }
    }
    match tensors.keys().find(|name| !parameters.iter().any(|info| info.name == **name)) {
        Some(name) => Err(wrong(name, format!("there is a {what} of it, which this model has not"))),
        None => Ok(()),
    }
}
