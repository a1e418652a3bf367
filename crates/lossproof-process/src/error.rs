//! How an adapter can fail to be one.

use crate::{CardError, CommandError, MessageError, RecordingError};
use lossproof_subject::{Breach, Call, safetensors::CodecError};
use std::{error::Error, io, path::PathBuf};

/// How an adapter can fail to be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// What was given as a command is none.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The command cannot be started.
    #[error("`{program}` could not be started: is it installed, and on the PATH?")]
    Start {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The process is gone.
    #[error("the adapter's process ended ({status}) where `{call}` was to be answered; {words}")]
    Ended {
        /// What was asked.
        call: Call,
        /// How it ended.
        status: String,
        /// What it wrote last.
        words: String,
    },
    /// No answer in time.
    #[error("`{call}` was not answered within {seconds} s, and the adapter was ended; {words}")]
    Hung {
        /// What was asked.
        call: Call,
        /// The time it was given.
        seconds: u64,
        /// What it wrote last.
        words: String,
    },
    /// The answer is none.
    #[error("`{call}` was answered with what is no message{}", behind(words.as_deref()))]
    Message {
        /// What was asked.
        call: Call,
        /// What is wrong with it.
        source: MessageError,
        /// What it wrote last, where that was looked at.
        words: Option<String>,
    },
    /// The answer to something else.
    #[error(
        "question {expected} (`{call}`) was answered with the number {found}: one answer for each question"
    )]
    WrongNumber {
        /// What was asked.
        call: Call,
        /// The number of the question.
        expected: u64,
        /// The number of the answer.
        found: u64,
    },
    /// A request where an answer was due.
    #[error("`{call}` was answered with a request")]
    NoAnswer {
        /// What was asked.
        call: Call,
    },
    /// Something follows the last answer.
    #[error(
        "behind the last answer stands more: one answer for each question, and nothing else on standard output"
    )]
    More,
    /// Bytes that are no tensors.
    #[error("the tensors of the answer to `{call}` cannot be read")]
    Tensors {
        /// What was asked.
        call: Call,
        /// What is wrong with them.
        source: CodecError,
    },
    /// Tensors that the answer must have and has not, or that it has and must not, or of a wrong size.
    #[error("the answer to `{call}` {problem}")]
    Content {
        /// What was asked.
        call: Call,
        /// What is wrong with it.
        problem: String,
    },
    /// Another version of the protocol.
    #[error("the adapter speaks version {found} of the protocol, and this judge version {expected}")]
    Protocol {
        /// The adapter's version.
        found: u32,
        /// The judge's.
        expected: u32,
    },
    /// The trainer could not say what it is.
    #[error("the trainer could not say what it is: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// The card says what no trainer can be.
    #[error("the adapter's card")]
    Card(#[from] CardError),
    /// What was recorded was never answered by an adapter.
    #[error("{path} answers as no adapter does", path = path.display())]
    Recorded {
        /// The file.
        path: PathBuf,
        /// What is wrong with an answer in it.
        source: Box<AdapterError>,
    },
    /// What was recorded cannot be used.
    #[error("the recording")]
    Recording(#[from] RecordingError),
}

/// What is said behind the rest of a sentence, where there is something.
fn behind(words: Option<&str>) -> String {
    words.map_or_else(String::new, |words| format!("; {words}"))
}

impl AdapterError {
    /// The error and everything it comes from, on one line.
    #[must_use]
    pub fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    /// What it is to whoever judges a subject.
    pub(crate) fn breach(&self, call: Call) -> Breach {
        match self {
            Self::Hung { seconds, .. } => Breach::Hung { call, seconds: *seconds },
            Self::Ended { status, words, .. } => Breach::Ended { call, how: format!("{status}; {words}") },
            other => Breach::Protocol { call, what: other.whole() },
        }
    }
}
