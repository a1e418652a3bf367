//! Names the bug: what a trainer is seen to do on designed probes, and the known bugs that would do the same.
//!
//! A hypothesis is a model of a trainer with one mistake. It forecasts every loss, every gradient and every
//! step of an examination: which labels are scored, what each token loss weighs, what the operators make of
//! the gradient. The truth that forecasts are computed with is the closed form of a model with known logits,
//! and, where there is one, a reference with the same parameters. Hypotheses that forecast what was measured
//! are ranked by likelihood.

mod anomalies;
mod attention;
mod behaviour;
mod call;
pub mod catalogue;
mod diagnosis;
mod diagnostician;
mod drafts;
mod evidence;
mod examination;
mod explanations;
mod gradient_comparison;
mod half_digits;
mod hypotheses;
pub mod inference;
mod label_losses;
mod likeness;
mod logging;
mod measuring;
mod missing;
mod named_values;
mod optimizer_runs;
mod other_loss;
mod patterns;
mod plan;
mod probe_parameters;
mod probes;
mod reference;
mod relations;
mod repeated_calls;
mod repeated_steps;
mod reported_loss;
mod score;
mod scorer;
mod simulated_optimizer;
pub mod tomography;
mod trainer_model;
mod truth;
mod validation;
mod validation_run;
mod weighed;

pub use catalogue::{Bug, Family};
pub use diagnosis::Diagnosis;
pub use diagnostician::Diagnostician;
pub use explanations::Candidate;
pub use hypotheses::Hypothesis;
pub use logging::Logging;
pub use other_loss::OtherLoss;
pub use patterns::{Pattern, PatternDiagnosis};
pub use plan::{PlannedProbe, ProbePlan};
