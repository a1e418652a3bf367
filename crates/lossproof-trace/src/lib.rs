//! Loss traces: what a trainer reported at every step of a short run, kept to be compared with.
//!
//! A loss curve alone guards little: under Adam a gradient that is eight times too large moves it no more than
//! rounding does. A trace holds what shows such a thing, the norm of the gradient in total and of every parameter,
//! and its plan should have a segment of plain SGD, which hides no scale. `docs/traces.md` tells how to guard a
//! trainer with one.

mod compare;
mod difference;
mod file;
pub mod number;
mod plot;
mod record;
#[cfg(feature = "insta")]
mod snapshot;
mod tolerance;

pub use compare::{Agreement, compare};
pub use difference::{Difference, Numbers, Quantity};
pub use file::TraceError;
pub use lossproof_numerics::{Closest, ErrorModel};
pub use plot::Plot;
pub use record::{RecordError, record};
pub use tolerance::Tolerance;
#[cfg(feature = "insta")]
#[doc(hidden)]
pub use {insta, snapshot::Guard};

use lossproof_spec::{Dtype, LossSpec, Optimizer};
use lossproof_subject::Device;
use serde::{Deserialize, Serialize};

/// What one run of a trainer reported, whole: as many steps as its plan has, each with a norm for every parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    header: Header,
    steps: Vec<Step>,
}

impl Trace {
    /// A trace of a run that lossproof did not [`record`] itself.
    ///
    /// # Errors
    /// When the steps are not those of the plan, a step has not one norm for every parameter, or the header holds a
    /// number that cannot be written.
    pub fn new(header: Header, steps: Vec<Step>) -> Result<Self, TraceError> {
        file::check(&header, &steps)?;
        Ok(Self { header, steps })
    }

    /// Of what run this is the trace.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was reported, step by step.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// Of what run a trace is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Who was trained.
    pub trainer: Trainer,
    /// Where it computed.
    #[serde(with = "number::by_name")]
    pub device: Device,
    /// Element type of parameters and gradients.
    #[serde(with = "number::dtype")]
    pub dtype: Dtype,
    /// What it was trained with.
    pub plan: Plan,
    /// Names of the parameters, in the order of every step's [`tensor_norms`](Step::tensor_norms).
    pub parameters: Vec<String>,
}

/// Who was trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trainer {
    /// Name of the trainer.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it computes with, and that library's version.
    pub framework: String,
}

/// What a trainer is trained with, besides the batches. Two traces can be compared when their plans are equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Name of the model.
    pub config: String,
    /// What fixed the initial parameters and the batches.
    pub seed: u64,
    /// The loss semantics.
    pub loss: LossSpec,
    /// The optimizers, one after the other.
    pub segments: Vec<Segment>,
}

impl Plan {
    /// Optimizer steps of all segments.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.steps))
    }
}

/// A number of steps with one optimizer, which is started afresh at the first of them; the parameters go on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Its steps.
    pub steps: usize,
}

/// What was reported of one optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The number of the step in the run, from 1.
    pub step: usize,
    /// The loss.
    #[serde(with = "number::any")]
    pub loss: f64,
    /// The trainer's own count of supervised tokens, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervised_tokens: Option<usize>,
    /// The learning rate that was used.
    #[serde(with = "number::any")]
    pub learning_rate: f64,
    /// Norm of the whole gradient before clipping.
    #[serde(with = "number::any")]
    pub grad_norm: f64,
    /// What the gradient was multiplied with.
    #[serde(with = "number::any")]
    pub clip_factor: f64,
    /// Whether the step was skipped because the gradient was not finite.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Norm of each parameter's gradient before clipping, in the order of [`Header::parameters`].
    #[serde(with = "number::list")]
    pub tensor_norms: Vec<f64>,
}
