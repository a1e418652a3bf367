//! What a subject says of itself, of its parameters, and of one batch.

use crate::{Device, Limits};
use lossproof_spec::{Dtype, LossSpec};

/// What a subject says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectInfo {
    /// Name of the trainer.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it computes with, and that library's version.
    pub framework: String,
    /// Element type of parameters and gradients.
    pub dtype: Dtype,
    /// Where it computes.
    pub device: Device,
    /// The loss semantics in force.
    pub spec: LossSpec,
    /// What it can take.
    pub limits: Limits,
}

/// One trainable parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Hugging Face's name without the `transformer.` prefix, such as `h.0.attn.c_attn.weight`.
    pub name: String,
    /// Shape in Hugging Face's layout (`Conv1D` weights are `[in, out]`).
    pub shape: Vec<usize>,
    /// The other name under which the same values are used, such as `lm_head.weight` for a tied head.
    pub tied_to: Option<String>,
}

/// What a subject returned for one batch, besides the gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The loss the trainer would log for this step. NaN under the empty policy `nan` when a mean was taken of nothing.
    pub loss: f64,
    /// The loss of each supervised token in the order of [`GlobalBatch::predictions`], where the trainer has them.
    pub token_losses: Option<Vec<f64>>,
    /// The trainer's own count of supervised tokens, where it has one.
    pub supervised_tokens: Option<usize>,
}
