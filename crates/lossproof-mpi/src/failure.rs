//! Why ranks do not go on together.

use lossproof_loop::RunError;
use lossproof_spec::{EmptyGroup, Group};
use lossproof_subject::SubjectError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A rank that does not go on, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rank {rank} {failure}")]
pub struct RankError {
    /// Which one, from 0.
    pub rank: usize,
    /// Why.
    pub failure: Failure,
}

/// Why a rank does not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Failure {
    /// It failed by itself, in its own words.
    Failed {
        /// The words.
        message: String,
    },
    /// A mean was to be taken of nothing. The rank is in order: it is the batch that is refused.
    Empty {
        /// Of which part of the batch; the whole of it where there is no index.
        part: Part,
        /// Which one.
        index: usize,
        /// Whether the policy makes it NaN.
        nan: bool,
    },
    /// It is not where the others are.
    Elsewhere {
        /// Where it has come.
        came: String,
        /// Where the others are.
        others: String,
    },
    /// It has not come.
    Silent {
        /// Where the others wait.
        place: String,
        /// For so many milliseconds.
        milliseconds: u64,
    },
    /// What it sent is nothing that a rank says.
    Garbage {
        /// What is wrong with it.
        message: String,
    },
    /// Its gradient has other tensors, or its parameters other values, than those of the first rank.
    Differs {
        /// What differs.
        what: String,
    },
    /// It is not there any more.
    Gone,
}

/// A part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// A sequence.
    Sequence,
    /// A micro-batch.
    MicroBatch,
    /// A rank.
    Rank,
    /// All of it.
    Batch,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { message } => write!(f, "failed: {message}"),
            Self::Empty { .. } => write!(f, "refuses the batch: a mean of nothing"),
            Self::Elsewhere { came, others } => write!(f, "came to {came}, and the others to {others}"),
            Self::Silent { place, milliseconds } => {
                let seconds = std::time::Duration::from_millis(*milliseconds).as_secs_f64();
                write!(f, "did not come to {place} within {seconds} s")
            }
            Self::Garbage { message } => write!(f, "sent what is nothing that a rank says: {message}"),
            Self::Differs { what } => write!(f, "has {what} than the first rank"),
            Self::Gone => write!(f, "is not there any more"),
        }
    }
}

impl Failure {
    /// Why a rank ends what it was asked.
    #[must_use]
    pub fn of(error: &SubjectError) -> Self {
        match error {
            SubjectError::EmptyGroup(EmptyGroup { group, nan }) => {
                let (part, index) = match *group {
                    Group::Sequence(index) => (Part::Sequence, index),
                    Group::MicroBatch(index) => (Part::MicroBatch, index),
                    Group::Rank(index) => (Part::Rank, index),
                    Group::Batch => (Part::Batch, 0),
                };
                Self::Empty { part, index, nan: *nan }
            }
            SubjectError::Failed { message, .. } => Self::Failed { message: message.clone() },
            error => Self::Failed { message: error.to_string() },
        }
    }
}

impl From<RankError> for SubjectError {
    fn from(error: RankError) -> Self {
        match error.failure {
            Failure::Empty { part, index, nan } => {
                let group = match part {
                    Part::Sequence => Group::Sequence(index),
                    Part::MicroBatch => Group::MicroBatch(index),
                    Part::Rank => Group::Rank(index),
                    Part::Batch => Group::Batch,
                };
                Self::EmptyGroup(EmptyGroup { group, nan })
            }
            _ => Self::failed("ranks", &error),
        }
    }
}

impl From<RankError> for RunError {
    fn from(error: RankError) -> Self {
        Self::Rank { rank: error.rank, what: error.failure.to_string() }
    }
}
