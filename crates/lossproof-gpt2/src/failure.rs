//! What the reference says when it fails.

use lossproof_subject::SubjectError;
use std::fmt::Display;

/// Name of the reference in reports.
pub(crate) const NAME: &str = "reference";

pub(crate) fn failed(error: impl Display) -> SubjectError {
    SubjectError::Failed { subject: NAME.to_owned(), message: error.to_string() }
}
