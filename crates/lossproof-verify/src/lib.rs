//! Verification of a trainer against an independent reference, finite differences and the loss calculus.
//!
//! [`verify`] is for models whose gradients fit in memory many times over; [`verify_streamed`] is for the
//! true GPT-2 sizes, where one model is in memory at a time and gradients pass by one tensor at a time.

mod alteration;
mod answers;
mod blame;
mod capability;
mod checked;
mod derivative;
mod exact;
mod exact_rows;
mod finite_differences;
mod global_differences;
mod json;
mod logged;
mod loss_rows;
mod losses;
#[cfg(feature = "safetensors")]
mod parameter_file;
mod report;
mod rounding_distance;
mod row;
mod semantics;
mod sequences;
mod sketched_answers;
mod slopes;
mod statement;
mod streamed;
mod streamed_rows;
mod third;
mod truth;

pub use blame::{Blame, BlamedPart};
pub use exact::{Verification, verify};
pub use finite_differences::Directions;
#[cfg(feature = "safetensors")]
pub use parameter_file::{ParameterFile, WriteError};
pub use report::Report;
pub use rounding_distance::RoundingDistance;
pub use statement::{BoundFrom, Comparison, Statement, StatementRow, Verdict};
pub use streamed::{Make, Streamed, verify_streamed};
pub use third::ThirdForward;

use lossproof_subject::{Breach, SourceError, Subject, SubjectError, Unsupported};

/// Hears how far a verification is: what is being done, steps done, steps in all.
pub type Progress<'a> = dyn FnMut(&str, usize, usize) + 'a;

/// Why a verification could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A subject could not answer.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A subject broke what is promised of every subject.
    #[error("{subject}: {breach}")]
    Breach {
        /// Name of the subject.
        subject: String,
        /// What it did.
        breach: Box<Breach>,
    },
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
    format!("{} {} on {}, {}, {}", info.name, info.version, info.framework, info.dtypes, info.device)
}
