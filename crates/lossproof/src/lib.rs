//! Verify loss and backprop semantics.
//!
//! A trainer under test is a [`Subject`]: it says what it is ([`SubjectInfo`]), takes a
//! [`GlobalBatch`](lossproof_spec::GlobalBatch), and hands the gradient its optimizer would see to a [`GradientSink`].
//! What it can do beyond that are capabilities: [`LoadParameters`], [`TokenLosses`].

mod gradient;
mod parameters;
mod recorded;
mod subject;
pub mod verify;

pub use gradient::{Collect, GradientSink, GradientView, SinkError, Sketch, Tee, TensorSketch};
pub use lossproof_numerics::Dtype;
pub use parameters::{Tensor, TensorError, TensorSet, TensorValues};
pub use recorded::{Recorded, RecordedError};
pub use subject::{
    Device, Limits, LoadParameters, Observation, ParameterInfo, Subject, SubjectError, SubjectInfo,
    TokenLosses, UnknownDevice, Unsupported,
};
