//! What ranks say to each other: a line of JSON, and bytes behind it.

use crate::{Failure, RankError};
use lossproof_process::Request;
use serde::{Deserialize, Serialize};

/// What one rank says to another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    pub(crate) line: Line,
    /// What comes with it.
    pub(crate) bytes: Vec<u8>,
}

/// What is said, and in the course of which question: what belongs to an earlier one is of no interest any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// The number of the question; 0 before the first.
    pub(crate) question: u64,
    pub(crate) said: Said,
}

/// What can be said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Said {
    /// The first asks all others for their part.
    Asks(Request<'static>),
    /// A rank has come to a place, with the bytes that it brings.
    Came(String),
    /// The first says that all have come; the bytes are those of all ranks, which have these lengths.
    All(Vec<usize>),
    /// A rank does not go on with a question, and which it is.
    Ends { rank: usize, failure: Failure },
    /// A rank leaves for good, and which it is: of interest whatever question goes on.
    Leaves { rank: usize, failure: Failure },
}

impl Note {
    pub(crate) fn new(question: u64, said: Said, bytes: Vec<u8>) -> Self {
        Self { line: Line { question, said }, bytes }
    }

    /// The message that says it.
    ///
    /// # Errors
    /// When it has no form in JSON, in words.
    pub(crate) fn write(self) -> Result<Vec<u8>, String> {
        let mut message = serde_json::to_vec(&self.line).map_err(|error| error.to_string())?;
        message.push(b'\n');
        message.extend(self.bytes);
        Ok(message)
    }

    /// What a message of a rank says.
    ///
    /// # Errors
    /// When it says nothing.
    pub(crate) fn read(rank: usize, mut message: Vec<u8>) -> Result<Self, RankError> {
        let garbage = |message: String| RankError { rank, failure: Failure::Garbage { message } };
        let Some(end) = message.iter().position(|&byte| byte == b'\n') else {
            return Err(garbage(format!("{} bytes without a line", message.len())));
        };
        let bytes = message.split_off(end + 1);
        let line = message.get(..end).unwrap_or_default();
        let line = serde_json::from_slice(line).map_err(|error| garbage(error.to_string()))?;
        Ok(Self { line, bytes })
    }
}
