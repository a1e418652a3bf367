//! The two ways in which work on libtorch ends early.

use lossproof::{SinkError, SubjectError};
use lossproof_spec::EmptyGroup;
use tch::TchError;

/// Kept apart until the subject, which knows its name, reports it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// libtorch refused or failed.
    Torch(TchError),
    /// A failure that has its final form.
    Subject(SubjectError),
}

impl From<TchError> for Failure {
    fn from(error: TchError) -> Self {
        Self::Torch(error)
    }
}

impl From<SubjectError> for Failure {
    fn from(error: SubjectError) -> Self {
        Self::Subject(error)
    }
}

impl From<EmptyGroup> for Failure {
    fn from(error: EmptyGroup) -> Self {
        Self::Subject(error.into())
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self::Subject(error.into())
    }
}
