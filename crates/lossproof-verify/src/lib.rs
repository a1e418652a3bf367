//! Verification of one trainer against an independent one, finite differences and the loss calculus.
//!
//! [`verify`] is for models whose gradients fit in memory many times over; [`verify_streamed`] is for the true GPT-2
//! sizes, where one model is in memory at a time and gradients pass by one tensor at a time.

mod blame;
mod blockwise;
mod derivative;
mod evidence;
mod exact;
mod global;
mod growth;
mod json;
mod judge;
mod parameter_file;
mod report;
mod row;
mod semantics;
mod sequences;
mod side;
mod statement;
mod streamed;
mod third;
mod truth;

pub use blame::{Blame, Part};
pub use derivative::Directions;
pub use exact::{Verification, verify};
pub use growth::Growth;
pub use parameter_file::{ParameterFile, WriteError};
pub use report::Report;
pub use statement::{BoundFrom, Comparison, Row, Statement, Verdict};
pub use streamed::{Make, Streamed, verify_streamed};

use lossproof_cases::Recorded;
use lossproof_numerics::ErrorModel;
use lossproof_subject::{SourceError, Subject, SubjectError, Unsupported};

/// Two f64 subjects of a recorded model, to be held to the recording.
pub struct ThirdForward<'a> {
    /// What was recorded.
    pub recorded: &'a Recorded,
    /// The subjects; their parameters are replaced by the recording's.
    pub subjects: Vec<&'a mut dyn Subject>,
    /// Shape facts of the recorded model and batch.
    pub model: ErrorModel,
}

/// Hears how far a verification is: what is being done, steps done, steps in all.
pub type Progress<'a> = dyn FnMut(&str, usize, usize) + 'a;

/// Why a verification could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A subject could not answer.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The parameters could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A subject lacks one of the loss semantics.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A subject lacks a capability.
    #[error("{subject} cannot {capability}, which a verification needs")]
    Lacks {
        /// Name of the subject.
        subject: String,
        /// The capability.
        capability: &'static str,
    },
    /// A gradient under a name that is not a parameter's.
    #[error("{subject} handed over a gradient for `{name}`, which it does not list as a parameter")]
    UnknownGradient {
        /// Name of the subject.
        subject: String,
        /// The name.
        name: String,
    },
    /// Two identical calls gave different gradients.
    #[error(
        "{subject} is not deterministic: two identical calls differ by {noise:.1e} of the gradient (dropout?)"
    )]
    NotDeterministic {
        /// Name of the subject.
        subject: String,
        /// The largest relative difference of any tensor.
        noise: f64,
    },
}

/// Name, version, framework, dtype and device of a subject, in one line.
fn describe(subject: &dyn Subject) -> String {
    let info = subject.info();
    format!("{} {} on {}, {}, {}", info.name, info.version, info.framework, info.dtype, info.device)
}
