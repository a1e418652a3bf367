//! The one seam where errors of libtorch become errors of a subject.

use crate::NAME;
use lossproof_spec::EmptyGroup;
use lossproof_subject::{SinkError, SubjectError};
use tch::TchError;

/// A [`SubjectError`] that `?` also makes from an error of tch, which neither of their crates can say.
#[derive(Debug)]
pub(crate) struct Failure(SubjectError);

impl Failure {
    pub(crate) fn new(message: String) -> Self {
        Self(SubjectError::Failed { subject: NAME.to_owned(), message })
    }
}

/// What libtorch says, without the C++ stack of the lines after the first.
pub(crate) fn message(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

impl From<TchError> for Failure {
    fn from(error: TchError) -> Self {
        Self::new(message(&error))
    }
}

impl From<SubjectError> for Failure {
    fn from(error: SubjectError) -> Self {
        Self(error)
    }
}

impl From<EmptyGroup> for Failure {
    fn from(error: EmptyGroup) -> Self {
        Self(error.into())
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self(error.into())
    }
}

impl From<Failure> for SubjectError {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}
