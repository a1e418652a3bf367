//! Why a subject could not answer.

use crate::{Breach, Count, SinkError, SourceError};
use lossproof_spec::EmptyGroup;
use std::fmt::{self, Display};

/// The trainer has no such semantics or capability. An answer, not a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct Unsupported {
    /// Name of the subject.
    pub subject: String,
    /// What it lacks.
    pub what: String,
    /// What the subject did instead of answering, so that nobody knows what it lacks.
    pub breach: Option<Box<Breach>>,
}

impl Unsupported {
    /// Says what a subject lacks.
    pub fn new(subject: &str, what: impl Display) -> Self {
        Self { subject: subject.to_owned(), what: what.to_string(), breach: None }
    }

    /// Says how a subject broke where it was asked whether it supports something.
    pub fn unanswered(subject: &str, what: impl Display, breach: Breach) -> Self {
        Self { breach: Some(Box::new(breach)), ..Self::new(subject, what) }
    }
}

impl Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.breach {
            Some(breach) => breach.fmt(f),
            None => write!(f, "{} does not support {}", self.subject, self.what),
        }
    }
}

impl SubjectError {
    /// What a trainer itself failed with.
    pub fn failed(subject: &str, error: impl Display) -> Self {
        Self::Failed { subject: subject.to_owned(), message: error.to_string() }
    }
}

/// Why a subject could not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// A batch outside the subject's limits.
    #[error("sequence {sequence}: {what} {value} at position {position} is not below {limit}")]
    Limit {
        /// What is outside.
        what: &'static str,
        /// Index of the sequence in the batch.
        sequence: usize,
        /// Position in the sequence.
        position: usize,
        /// The value found.
        value: usize,
        /// What it must be below.
        limit: usize,
    },
    /// More parts than the subject takes, or fewer.
    #[error("{found} {what}, the subject takes {takes}")]
    Number {
        /// Which parts, of what.
        what: String,
        /// The number found.
        found: usize,
        /// How many it takes.
        takes: Count,
    },
    /// A sequence of a kind the subject does not take.
    #[error("sequence {sequence} {what}, which the subject does not take")]
    Kind {
        /// What about it.
        what: &'static str,
        /// Index of the sequence in the batch.
        sequence: usize,
    },
    /// A batch that the subject refuses, in its own words.
    #[error("{subject} refuses the batch: {message}")]
    Refused {
        /// Name of the subject.
        subject: String,
        /// What it said.
        message: String,
    },
    /// A mean over nothing, under the empty policy `error`.
    #[error(transparent)]
    EmptyGroup(#[from] EmptyGroup),
    /// A parameter that does not fit.
    #[error("parameter `{name}`: {problem}")]
    Parameter {
        /// Name of the parameter.
        name: String,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// A parameter that could not be read from where they come from.
    #[error("no parameters")]
    Source(#[from] SourceError),
    /// The receiver of the gradient refused a tensor.
    #[error("gradient refused")]
    Sink(#[from] SinkError),
    /// What a training is to go on from was saved by another one.
    #[error("what was saved is of another training: {difference}")]
    OtherTraining {
        /// What differs.
        difference: String,
    },
    /// The subject broke what is promised of every trainer.
    #[error(transparent)]
    Breach(#[from] Breach),
    /// The trainer itself failed.
    #[error("{subject} failed: {message}")]
    Failed {
        /// Name of the subject.
        subject: String,
        /// What it said.
        message: String,
    },
}
