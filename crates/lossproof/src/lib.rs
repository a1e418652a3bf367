//! Verify loss and backprop semantics.
//!
//! A trainer under test is a [`Subject`]: it says what it is ([`SubjectInfo`]), takes a
//! [`GlobalBatch`](lossproof_spec::GlobalBatch), and hands the gradient its optimizer would see to a [`GradientSink`].
//! What it can do beyond that are capabilities: [`LoadParameters`], [`TokenLosses`], [`UpstreamWeights`],
//! [`OptimizerSteps`], [`Evaluation`].

mod case;
#[cfg(feature = "proptest")]
mod case_files;
#[cfg(feature = "conformance")]
mod conformance;
pub mod diagnosis;
mod evaluation;
mod gradient;
mod initial;
mod judgement;
#[cfg(feature = "proptest")]
pub mod laws;
mod names;
mod optimizer;
mod parameters;
mod recorded;
mod sketch;
mod slope;
mod source;
#[cfg(feature = "proptest")]
pub mod strategies;
mod subject;
pub mod tomography;
pub mod trace;
pub mod verify;

pub use case::{Case, InvalidCase, Scale};
#[cfg(feature = "proptest")]
pub use case_files::{CaseFile, CaseFileError};
#[cfg(feature = "conformance")]
pub use conformance::Conformance;
pub use evaluation::{Evaluated, Evaluation};
pub use gradient::{Collect, Discard, GradientSink, GradientView, SinkError, Tee};
pub use initial::{gpt2_initial, probe_initial, probe_values};
pub use lossproof_numerics::Dtype;
pub use optimizer::{Adam, Clip, Decayed, EpsilonPlacement, Optimizer, OptimizerSteps, Rule, StepReport};
pub use parameters::{Tensor, TensorError, TensorSet, TensorValues};
pub use recorded::{Recorded, RecordedError};
pub use sketch::{BlockSketch, Projections, Sketch};
pub use source::{ParameterFile, ParameterSource, SourceError, WriteError, load_all};
pub use subject::{
    Device, Limits, LoadParameters, Observation, ParameterInfo, Subject, SubjectError, SubjectInfo,
    TokenLosses, UnknownDevice, Unsupported, UpstreamWeights,
};
