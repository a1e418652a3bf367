//! What a trainer implements to be held to the laws of loss and backprop semantics.
//!
//! A trainer under test is a [`Subject`]: it says what it is ([`SubjectInfo`]), takes a
//! [`GlobalBatch`](lossproof_spec::GlobalBatch), and hands the gradient its optimizer would see to a [`GradientSink`].
//! What it can do beyond that are capabilities: [`LoadParameters`], [`TokenLosses`], [`UpstreamWeights`],
//! [`OptimizerSteps`], [`Evaluation`], [`TrainingLoop`], [`Objectives`]. Whoever uses a subject does so through
//! [`Checked`], which validates all that comes out. A trainer that a training loop drives call by call is a
//! [`LoopTrainer`].

mod breach;
mod capabilities;
mod checked;
mod claims;
mod count;
mod device;
mod dropout;
mod error;
mod evaluation;
mod gradient;
#[cfg(feature = "safetensors")]
mod half_precision;
mod info;
#[cfg(feature = "initial")]
mod initial;
mod limits;
mod log_policy;
mod loop_trainer;
mod model;
mod objectives;
mod offered;
mod panics;
mod parameter;
mod philox;
mod ranks;
#[cfg(feature = "safetensors")]
pub mod safetensors;
mod samples;
mod source;
mod steps;
mod subject;
mod tensor;
mod training;
mod watchdog;

pub use breach::{Breach, Call};
pub use capabilities::{LoadParameters, TokenLosses, UpstreamWeights};
pub use checked::Checked;
pub use claims::{Claims, equivalent};
pub use count::Count;
pub use device::{Device, UnknownDevice};
pub use dropout::{BatchDropout, Dropout, DropoutSite, SamplePlace};
pub use error::{SubjectError, Unsupported};
pub use evaluation::{Evaluated, Evaluation};
pub use gradient::{Collect, Discard, GradientSink, GradientView, SinkError, Tee};
pub use info::{Observation, SubjectInfo};
#[cfg(feature = "initial")]
pub use initial::{gpt2_initial, gpt2_initial_of, probe_initial, probe_initial_of, probe_values};
pub use limits::Limits;
pub use log_policy::LogPolicy;
pub use loop_trainer::{
    LoopTrainer, Moment, TrainerState, check_gradient, check_state, gradient_of, state_of,
};
pub use model::ModelInfo;
pub use objectives::{ObjectiveBatch, ObjectiveKind, Objectives};
pub use offered::Offered;
pub use panics::caught;
pub use parameter::ParameterInfo;
pub use philox::philox;
pub use ranks::{RankPlace, RankShares, Totals};
pub use samples::{Sample, TrainingBatch};
pub use source::{ParameterSource, SourceError};
pub use steps::{OptimizerSteps, StepReport};
pub use subject::{Subject, load_all};
pub use tensor::{Tensor, TensorError, TensorSet, TensorValues};
pub use training::{PlannedSchedule, TracedUpdate, TrainingEvent, TrainingLoop, TrainingPlan, TrainingTrace};
pub use watchdog::Watchdog;
