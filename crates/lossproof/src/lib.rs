//! Verify loss and backprop semantics.
//!
//! A trainer under test is a [`Subject`]: it says what it is ([`SubjectInfo`]), takes a
//! [`GlobalBatch`](lossproof_spec::GlobalBatch), and hands the gradient its optimizer would see to a [`GradientSink`].
//! What it can do beyond that are capabilities: [`LoadParameters`], [`TokenLosses`], [`UpstreamWeights`],
//! [`OptimizerSteps`].

mod gradient;
mod initial;
mod optimizer;
mod parameters;
mod recorded;
mod subject;
pub mod verify;

pub use gradient::{Collect, GradientSink, GradientView, SinkError, Sketch, Tee, TensorSketch};
pub use initial::{gpt2_initial, probe_initial};
pub use lossproof_numerics::Dtype;
pub use optimizer::{
    Adam, Clip, Decayed, EpsilonPlacement, Optimizer, OptimizerSteps, Rule, StepReport,
};
pub use parameters::{Tensor, TensorError, TensorSet, TensorValues};
pub use recorded::{Recorded, RecordedError};
pub use subject::{
    Device, Limits, LoadParameters, Observation, ParameterInfo, Subject, SubjectError, SubjectInfo,
    TokenLosses, UnknownDevice, Unsupported, UpstreamWeights,
};
