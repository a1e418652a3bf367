//! What a subject says of itself, of its parameters, and of one batch.

use crate::{Claims, Device, Limits, LogPolicy, Unsupported};
use lossproof_spec::{Dtype, LossSpec, Role};

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
    /// The loss semantics that it says it has.
    pub claims: Claims,
    /// What it can take.
    pub limits: Limits,
    /// Which loss it logs for a step.
    pub log_policy: LogPolicy,
}

impl SubjectInfo {
    /// The card of a trainer with one loss, in f32 on the CPU, that logs the loss of the whole window. Other
    /// fields are changed with `..`.
    ///
    /// ```
    /// use lossproof_spec::LossSpec;
    /// use lossproof_subject::{Count, Limits, SubjectInfo};
    ///
    /// let limits = Limits { micro_batches: Count::exactly(4), ..Limits::of_model(50_257, 1024) };
    /// let card = SubjectInfo::of_one("my trainer", "0.3.0", "candle 0.9", LossSpec::token_mean(), limits);
    /// ```
    #[must_use]
    pub fn of_one(name: &str, version: &str, framework: &str, claim: LossSpec, limits: Limits) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            framework: framework.to_owned(),
            dtype: Dtype::F32,
            device: Device::Cpu,
            claims: Claims::One(claim),
            limits,
            log_policy: LogPolicy::default(),
        }
    }

    /// The answer to a spec that is not claimed.
    #[must_use]
    pub fn unsupported(&self, spec: &LossSpec) -> Unsupported {
        Unsupported { subject: self.name.clone(), what: spec.to_string() }
    }
}

/// One trainable parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Hugging Face's name without the `transformer.` prefix, such as `h.0.attn.c_attn.weight`.
    pub name: String,
    /// Shape in Hugging Face's layout (`Conv1D` weights are `[in, out]`).
    pub shape: Vec<usize>,
    /// What it does in the model.
    pub role: Role,
    /// The other name under which the same values are used, such as `lm_head.weight` for a tied head.
    pub tied_to: Option<String>,
}

impl ParameterInfo {
    /// A parameter that is used under no other name, with the role that its name implies: other names are
    /// declared with `..`.
    ///
    /// ```
    /// use lossproof_spec::Role;
    /// use lossproof_subject::ParameterInfo;
    ///
    /// let gain = ParameterInfo { role: Role::NormGain, ..ParameterInfo::named("block.0.norm_a.scale", &[64])
    /// };
    /// ```
    #[must_use]
    pub fn named(name: &str, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), role: Role::of_name(name), tied_to: None }
    }
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
