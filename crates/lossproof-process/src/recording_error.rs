//! Why a recording cannot be made or used.

use crate::{MessageError, PROTOCOL};
use lossproof_subject::Call;
use std::{io, path::PathBuf};

/// Why a recording cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// It cannot be written.
    #[error("{path} could not be written", path = path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("{path} could not be read", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is none.
    #[error("{path} is no recording of an adapter: it begins with `{shown}`", path = path.display())]
    None {
        /// The file.
        path: PathBuf,
        /// How it begins.
        shown: String,
    },
    /// It is of another version of the protocol.
    #[error("{path} is of version {found} of the protocol, this is {PROTOCOL}: record it again", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Something in it is no answer.
    #[error("{path} has no answer at byte {place}", path = path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where.
        place: u64,
        /// What is wrong there.
        source: MessageError,
    },
    /// It does not have the answer to a question.
    #[error(
        "{path} has no answer to this question (`{call}`): replay it with the arguments it was recorded with",
        path = path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was asked.
        call: Call,
    },
}
