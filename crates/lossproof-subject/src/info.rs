//! What a subject says of itself, of its parameters, and of one batch.

use crate::{Device, Limits, LogPolicy};
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
    /// Which loss it logs for a step.
    pub log_policy: LogPolicy,
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
    /// The loss the trainer logs for this step, as its [`LogPolicy`] says. NaN under the empty policy `nan`
    /// when a mean was taken of nothing.
    pub loss: f64,
    /// The loss of each supervised token of the whole batch, whatever the log policy, in the order of
    /// [`GlobalBatch::predictions`](lossproof_spec::GlobalBatch::predictions), where the trainer has them.
    /// Label smoothing and z-loss of the spec in force are in them.
    pub token_losses: Option<Vec<f64>>,
    /// The trainer's own count of supervised tokens in the whole batch, where it has one.
    pub supervised_tokens: Option<usize>,
}
