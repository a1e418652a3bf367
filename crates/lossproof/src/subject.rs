//! The trainer under test, as lossproof sees it.

use crate::{Evaluation, GradientSink, OptimizerSteps, SinkError, SourceError, TensorSet};
use lossproof_numerics::Dtype;
use lossproof_spec::{EmptyGroup, GlobalBatch, IGNORE_INDEX, LossSpec, Sequence};
use std::{fmt, str::FromStr};

/// A trainer under test. The reference and libtorch go through this door as a stranger's trainer would.
pub trait Subject {
    /// What this is.
    fn info(&self) -> SubjectInfo;

    /// The trainable parameters under Hugging Face's names, in a fixed order. A tied parameter appears once.
    fn parameters(&self) -> Vec<ParameterInfo>;

    /// Back to the initial parameters: no gradient, no optimizer state.
    ///
    /// # Errors
    /// When the trainer cannot be brought back.
    fn reset(&mut self) -> Result<(), SubjectError>;

    /// Declares the loss semantics [`accumulate`](Self::accumulate) is to implement from now on.
    ///
    /// # Errors
    /// [`Unsupported`] when this trainer has no such semantics; the former spec stays in force.
    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported>;

    /// Forward and backward over every rank and micro-batch of one optimizer step, without taking the step.
    ///
    /// The gradient the optimizer would see goes to `gradients`, one tensor at a time, each parameter exactly once, also
    /// where it is zero, in the trainer's own dtype and under the names of [`parameters`](Self::parameters).
    ///
    /// # Errors
    /// When the batch is outside the subject's [`Limits`], the empty policy says so, or the trainer fails.
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
}

/// The capability to take parameters from outside.
pub trait LoadParameters {
    /// Replaces every parameter; these become the initial parameters [`Subject::reset`] returns to.
    ///
    /// # Errors
    /// When a parameter is missing, unknown, of another shape or not finite; then nothing has changed.
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError>;

    /// Replaces the values (row-major, rounded to the trainer's dtype) of one parameter until the next
    /// [`Subject::reset`] or [`load`](Self::load).
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
    /// When the batch is outside the subject's [`Limits`] or the trainer fails.
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError>;
}

/// The capability to differentiate any weighted sum of token losses: the backward pass from a given upstream gradient.
pub trait UpstreamWeights {
    /// Forward and backward of `Σ_t u_t·ℓ_t` over the whole batch, `weights` holding `u_t` for every prediction in the order
    /// of [`GlobalBatch::predictions`]; those of ignored predictions are not looked at. The token losses are those of the
    /// loss spec in force (label smoothing, z-loss); nothing else of it plays a part. Returns the weighted sum and hands the
    /// gradient over as [`Subject::accumulate`] does.
    ///
    /// # Errors
    /// When the number of weights is not that of the predictions, the batch is outside the subject's [`Limits`], or the
    /// trainer fails.
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError>;
}

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

/// Where a subject computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = UnknownDevice;

    /// `cpu`, `cuda` (the first device) or `cuda:INDEX`.
    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let index = name.strip_prefix("cuda:").and_then(|index| index.parse().ok());
                index.map(Self::Cuda).ok_or_else(|| UnknownDevice(name.to_owned()))
            }
        }
    }
}

/// A name that is no device's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no device `{0}`: write cpu, cuda or cuda:INDEX")]
pub struct UnknownDevice(String);

/// What a subject can take; batches are made inside these limits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Token ids are below this.
    pub vocabulary: usize,
    /// Position ids are below this, and no sequence is longer.
    pub positions: usize,
    /// Whether every sequence must have exactly `positions` positions.
    pub fixed_length: bool,
    /// Whether labels may be ignored.
    pub ignore_index: bool,
    /// Whether a sequence may be padded and hold several documents: `segment_ids` other than 1, `position_ids` other than
    /// 0, 1, 2, ….
    pub segments: bool,
    /// The most sequences a micro-batch may have.
    pub sequences: usize,
    /// The most micro-batches a rank may have.
    pub micro_batches: usize,
    /// The most ranks a batch may have.
    pub ranks: usize,
}

impl Limits {
    /// A subject that takes everything a model with this vocabulary and this many positions can.
    #[must_use]
    pub fn of_model(vocabulary: usize, positions: usize) -> Self {
        Self {
            vocabulary,
            positions,
            fixed_length: false,
            ignore_index: true,
            segments: true,
            sequences: usize::MAX,
            micro_batches: usize::MAX,
            ranks: usize::MAX,
        }
    }

    /// Checks a batch against the limits.
    ///
    /// # Errors
    /// [`SubjectError::Limit`] naming the first sequence, position and value outside them.
    pub fn check(&self, batch: &GlobalBatch) -> Result<(), SubjectError> {
        self.check_groups(batch)?;
        let outside = |value: u32, limit: usize| usize::try_from(value).is_ok_and(|value| value >= limit);
        for (sequence, tokens) in batch.sequences().enumerate() {
            let error = |what, position, value: usize, limit| SubjectError::Limit {
                what,
                sequence,
                position,
                value,
                limit,
            };
            if tokens.len() > self.positions {
                return Err(error("length", 0, tokens.len(), self.positions + 1));
            }
            self.check_kind(sequence, tokens)?;
            let fields = [
                ("token id", tokens.input_ids(), self.vocabulary),
                ("target", tokens.targets(), self.vocabulary),
                ("position id", tokens.position_ids(), self.positions),
            ];
            for (what, values, limit) in fields {
                if let Some(position) = values.iter().position(|&value| outside(value, limit)) {
                    return Err(error(what, position, values[position] as usize, limit));
                }
            }
        }
        Ok(())
    }

    fn check_groups(&self, batch: &GlobalBatch) -> Result<(), SubjectError> {
        let most = |what, found: Option<usize>, limit| match found {
            Some(found) if found > limit => Err(SubjectError::TooMany { what, found, limit }),
            _ => Ok(()),
        };
        most("ranks", Some(batch.ranks().len()), self.ranks)?;
        let micro_batches = batch.ranks().iter().map(|rank| rank.micro_batches().len());
        most("micro-batches of a rank", micro_batches.max(), self.micro_batches)?;
        let sequences = batch.micro_batches().map(|micro_batch| micro_batch.sequences().len());
        most("sequences of a micro-batch", sequences.max(), self.sequences)
    }

    fn check_kind(&self, sequence: usize, tokens: &Sequence) -> Result<(), SubjectError> {
        let refuse = |what| Err(SubjectError::Kind { what, sequence });
        if self.fixed_length && tokens.len() != self.positions {
            return refuse("is shorter than the fixed length");
        }
        if !self.ignore_index && tokens.labels().contains(&IGNORE_INDEX) {
            return refuse("has ignored labels");
        }
        let counts_up = |(position, &id): (usize, &u32)| usize::try_from(id) == Ok(position);
        let plain = tokens.segment_ids().iter().all(|&id| id == 1)
            && tokens.position_ids().iter().enumerate().all(counts_up);
        if !self.segments && !plain {
            return refuse("is padded or packed");
        }
        Ok(())
    }
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

/// The trainer has no such semantics or capability. An answer, not a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject} does not support {what}")]
pub struct Unsupported {
    /// Name of the subject.
    pub subject: String,
    /// What it lacks.
    pub what: String,
}

/// Why a subject could not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// A batch outside the subject's limits.
    #[error("sequence {sequence}: {what} {value} at position {position} is not below {limit}")]
    Limit {
        /// What is outside.
        what: &'static str,
        /// Index of the sequence in the batch.
        sequence: usize,
        /// Position in the sequence.
        position: usize,
        /// The value found.
        value: usize,
        /// What it must be below.
        limit: usize,
    },
    /// More parts than the subject takes.
    #[error("{found} {what}, the subject takes {limit}")]
    TooMany {
        /// Parts of what.
        what: &'static str,
        /// The number found.
        found: usize,
        /// The most it takes.
        limit: usize,
    },
    /// A sequence of a kind the subject does not take.
    #[error("sequence {sequence} {what}, which the subject does not take")]
    Kind {
        /// What about it.
        what: &'static str,
        /// Index of the sequence in the batch.
        sequence: usize,
    },
    /// A mean over nothing, under the empty policy `error`.
    #[error(transparent)]
    EmptyGroup(#[from] EmptyGroup),
    /// A parameter that does not fit.
    #[error("parameter `{name}`: {problem}")]
    Parameter {
        /// Name of the parameter.
        name: String,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// A parameter that could not be read from where they come from.
    #[error("no parameters")]
    Source(#[from] SourceError),
    /// The receiver of the gradient refused a tensor.
    #[error("gradient refused")]
    Sink(#[from] SinkError),
    /// The trainer itself failed.
    #[error("{subject} failed: {message}")]
    Failed {
        /// Name of the subject.
        subject: String,
        /// What it said.
        message: String,
    },
}
