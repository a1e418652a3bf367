//! Why a run cannot go on.

use crate::SettingsError;
use lossproof_spec::BatchError;
use lossproof_subject::{SubjectError, Unsupported};

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Settings that make no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The trainer lacks what they ask for.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A sample of the corpus makes no sequence.
    #[error("a sample of the corpus makes no sequence")]
    Sample(#[from] BatchError),
    /// More ranks than there are processes for.
    #[error("{ranks} ranks, and there are {most} processes: give each rank one")]
    TooManyRanks {
        /// Ranks that the settings ask for.
        ranks: usize,
        /// Processes.
        most: usize,
    },
    /// A rank in a process of its own failed, or did not come where all ranks meet.
    #[error("rank {rank} {what}")]
    Rank {
        /// Which one, from 0.
        rank: usize,
        /// What it did, as the rest of a sentence.
        what: String,
    },
    /// The trainer failed.
    #[error("the trainer failed")]
    Trainer(#[from] SubjectError),
}
