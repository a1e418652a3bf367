//! Holds a trainer to the laws of loss and backprop semantics from its own `cargo test`.
//!
//! A trainer under test implements [`Subject`]; [`conformance!`] makes a test of every law. Everything that a
//! trainer needs is exported here; the crates behind it are there under their names in short: [`spec`],
//! [`subject`], [`cases`], [`laws`], [`verify`], [`trace`] and, with the default feature `diagnosis`,
//! [`diagnosis`].

mod card;
mod conformance;
mod law_test;
mod options;
mod outcome;
mod stand;
mod supervised;

pub use conformance::Conformance;
pub use lossproof_cases as cases;
#[cfg(feature = "diagnosis")]
pub use lossproof_diagnosis as diagnosis;
pub use lossproof_laws as laws;
pub use lossproof_spec as spec;
pub use lossproof_spec::{
    Adam, Clip, Combine, Counting, Decayed, Dtype, EmptyGroup, EmptyPolicy, EpsilonPlacement, GlobalBatch,
    IGNORE_INDEX, LossSpec, MicroBatch, Optimizer, Prediction, Rank, Reduction, Rule, Scope, Sequence,
    SequenceFields,
};
pub use lossproof_subject as subject;
pub use lossproof_subject::{
    Claims, Collect, Count, Device, Discard, Evaluated, Evaluation, GradientSink, GradientView, Limits,
    LoadParameters, LogPolicy, Observation, OptimizerSteps, ParameterInfo, ParameterSource, SinkError,
    StepReport, Subject, SubjectError, SubjectInfo, Tee, Tensor, TensorError, TensorSet, TensorValues,
    TokenLosses, Unsupported, UpstreamWeights,
};
pub use lossproof_trace as trace;
pub use lossproof_verify as verify;
