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
    /// The trainer failed.
    #[error("the trainer failed")]
    Trainer(#[from] SubjectError),
}
