//! Holds a trainer to the laws of loss and backprop semantics from its own `cargo test`.
//!
//! A trainer under test implements [`Subject`]; [`conformance!`] makes a test of every law. Everything that a
//! trainer needs is exported here; the crates behind it are there under their names in short: [`spec`],
//! [`subject`], [`cases`], [`laws`], [`verify`], [`trace`] and, with the default feature `diagnosis`,
//! [`diagnosis`].
//!
//! # A trainer with one loss
//!
//! Four methods make a subject of it: what it is and takes, its parameters, the way back to their initial
//! values, and forward and backward over a batch. This one knows which token follows which, and computes the
//! mean over all supervised tokens:
//!
//! ```
//! use lossproof::laws::{Campaign, Law, Verdict};
//! use lossproof::{
//!     GlobalBatch, GradientSink, GradientView, Limits, LossSpec, Observation, ParameterInfo, Subject,
//!     SubjectError, SubjectInfo,
//! };
//!
//! const TOKENS: usize = 5;
//!
//! struct Bigram {
//!     /// One row of logits for each token.
//!     table: Vec<f32>,
//! }
//!
//! impl Subject for Bigram {
//!     fn info(&self) -> SubjectInfo {
//!         let limits = Limits::of_model(TOKENS, 32);
//!         SubjectInfo::of_one("bigram", "0.1.0", "none", LossSpec::token_mean(), limits)
//!     }
//!
//!     fn parameters(&self) -> Vec<ParameterInfo> {
//!         vec![ParameterInfo::named("table", &[TOKENS, TOKENS])]
//!     }
//!
//!     fn reset(&mut self) -> Result<(), SubjectError> {
//!         Ok(()) // it has no optimizer, and its table never changes
//!     }
//!
//!     fn accumulate(
//!         &mut self,
//!         batch: &GlobalBatch,
//!         gradients: &mut dyn GradientSink,
//!     ) -> Result<Observation, SubjectError> {
//!         let sequences: Vec<_> = batch.sequences().collect();
//!         let supervised: Vec<_> = batch.predictions().filter(|p| p.supervised).collect();
//!         let weight = 1.0 / supervised.len() as f32;
//!         let (mut loss, mut gradient) = (0.0, vec![0.0; TOKENS * TOKENS]);
//!         for prediction in supervised {
//!             let token = sequences[prediction.sequence].input_ids()[prediction.position] as usize;
//!             let label = prediction.target as usize;
//!             let row = &self.table[token * TOKENS..][..TOKENS];
//!             let total: f32 = row.iter().map(|logit| logit.exp()).sum();
//!             loss += weight * (total.ln() - row[label]);
//!             for class in 0..TOKENS {
//!                 let target = if class == label { 1.0 } else { 0.0 };
//!                 gradient[token * TOKENS + class] += weight * (row[class].exp() / total - target);
//!             }
//!         }
//!         gradients.receive("table", &[TOKENS, TOKENS], GradientView::F32(&gradient))?;
//!         Ok(Observation::new(loss.into(), None))
//!     }
//! }
//!
//! let table = (0..TOKENS * TOKENS).map(|index| (index as f32).sin()).collect();
//! let campaign = Campaign { cases: 64, ..Campaign::default() };
//! let law = Law::named("token-mean").expect("a law");
//! let report = campaign.run(law, &mut Bigram { table })?;
//! assert_eq!(report.verdict, Verdict::Pass, "{report}");
//! # Ok::<(), lossproof::cases::CaseFileError>(())
//! ```

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
    Group, IGNORE_INDEX, LossSpec, MicroBatch, Optimizer, Prediction, Rank, Reduction, Role, Rule, Scope,
    Sequence, SequenceFields,
};
pub use lossproof_subject as subject;
pub use lossproof_subject::{
    Claims, Collect, Count, Device, Discard, Evaluated, Evaluation, GradientSink, GradientView, Limits,
    LoadParameters, LogPolicy, ObjectiveBatch, ObjectiveKind, Objectives, Observation, OptimizerSteps,
    ParameterInfo, ParameterSource, PlannedSchedule, SinkError, StepReport, Subject, SubjectError,
    SubjectInfo, Tee, Tensor, TensorError, TensorSet, TensorValues, TokenLosses, TracedUpdate, TrainingEvent,
    TrainingLoop, TrainingPlan, TrainingTrace, Unsupported, UpstreamWeights, capabilities,
};
pub use lossproof_trace as trace;
pub use lossproof_verify as verify;
