//! Messages as bytes: one line of JSON, and the tensors that it announces behind it.

use lossproof_spec::{concise, printable};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::io::{self, BufRead, Read, Write};

/// Bytes that the line of a message may have: a card with ten thousand parameters needs a million.
pub(crate) const LONGEST_LINE: u64 = 1 << 24;

/// What is shown of a line that is no message.
const SHOWN: usize = 80;

/// One message, a question or an answer: a line, and tensors in the safetensors format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The JSON of the line, without its end.
    pub line: Vec<u8>,
    /// The bytes behind it.
    pub tensors: Vec<u8>,
}

/// The line of a message: its number, how many bytes follow, and what it says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<Q, A, F> {
    /// Number of the question. An answer has that of its question.
    id: u64,
    /// Bytes of tensors behind the line.
    #[serde(default, skip_serializing_if = "is_zero")]
    tensors: u64,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    request: Option<Q>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    answer: Option<A>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    error: Option<F>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn none<T>() -> Option<T> {
    None
}

/// A line of which only the frame is of interest; what it says takes no memory beside it.
type AnyLine = Line<Box<RawValue>, Box<RawValue>, Box<RawValue>>;

/// What is said in a message.
pub(crate) enum Said<Q, A, F> {
    Request(Q),
    Answer(A),
    Error(F),
}

impl Message {
    /// A message that says this.
    ///
    /// # Errors
    /// When it has no form in JSON.
    pub(crate) fn new<Q, A, F>(id: u64, said: Said<Q, A, F>, tensors: Vec<u8>) -> Result<Self, MessageError>
    where
        Q: Serialize,
        A: Serialize,
        F: Serialize,
    {
        let mut line = Line { id, tensors: tensors.len() as u64, request: None, answer: None, error: None };
        match said {
            Said::Request(request) => line.request = Some(request),
            Said::Answer(answer) => line.answer = Some(answer),
            Said::Error(error) => line.error = Some(error),
        }
        let line = serde_json::to_vec(&line).map_err(|source| MessageError::Unwritable { source })?;
        Ok(Self { line, tensors })
    }

    /// What it says, and the number of its question.
    ///
    /// # Errors
    /// When the line does not have the form that is asked for.
    pub(crate) fn said<Q, A, F>(&self) -> Result<(u64, Said<Q, A, F>), MessageError>
    where
        Q: DeserializeOwned,
        A: DeserializeOwned,
        F: DeserializeOwned,
    {
        let line: Line<Q, A, F> =
            serde_json::from_slice(&self.line).map_err(|source| not_a_message(&self.line, source))?;
        match (line.request, line.answer, line.error) {
            (Some(request), None, None) => Ok((line.id, Said::Request(request))),
            (None, Some(answer), None) => Ok((line.id, Said::Answer(answer))),
            (None, None, Some(error)) => Ok((line.id, Said::Error(error))),
            _ => Err(MessageError::NotOne { shown: shown(&self.line) }),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the other end takes no more.
    pub fn write(&self, into: &mut impl Write) -> io::Result<()> {
        into.write_all(&self.line)?;
        into.write_all(b"\n")?;
        into.write_all(&self.tensors)?;
        into.flush()
    }

    /// Reads one; `None` where nothing follows. No more is read, and no more memory taken, than the limits allow.
    ///
    /// # Errors
    /// When the line is longer than any message's or no message, or announces more than so many bytes of
    /// tensors, or it ends before it is whole.
    pub fn read(from: &mut impl BufRead, most_tensors: u64) -> Result<Option<Self>, MessageError> {
        let Some(line) = read_line(from)? else { return Ok(None) };
        let announced = announced(&line)?;
        if announced > most_tensors {
            return Err(MessageError::TooManyBytes { announced, most: most_tensors });
        }
        // Grows with what comes, and not with what is announced.
        let mut tensors = Vec::new();
        let read = from.by_ref().take(announced).read_to_end(&mut tensors);
        read.map_err(|source| MessageError::Unreadable { source })?;
        let found = tensors.len() as u64;
        if found < announced {
            return Err(MessageError::Truncated { announced, found });
        }
        Ok(Some(Self { line, tensors }))
    }

    /// The number of its question.
    ///
    /// # Errors
    /// When it is no message.
    pub(crate) fn number(&self) -> Result<u64, MessageError> {
        Ok(any_line(&self.line)?.id)
    }

    /// Gives a recorded answer the number of the question that it is to answer now.
    ///
    /// # Errors
    /// When one of them is no message.
    pub(crate) fn answer_to(&mut self, question: &Self) -> Result<(), MessageError> {
        let id = question.number()?;
        let line = AnyLine { id, ..any_line(&self.line)? };
        self.line = serde_json::to_vec(&line).map_err(|source| MessageError::Unwritable { source })?;
        Ok(())
    }
}

/// A line without its end; `None` where nothing follows.
///
/// # Errors
/// When it is longer than any line of a message, or does not end.
pub(crate) fn read_line(from: &mut impl BufRead) -> Result<Option<Vec<u8>>, MessageError> {
    let mut line = Vec::new();
    let read = from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
    read.map_err(|source| MessageError::Unreadable { source })?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        return Ok(Some(line));
    }
    match line.len() as u64 {
        0 => Ok(None),
        LONGEST_LINE => Err(MessageError::LongLine { shown: shown(&line) }),
        _ => Err(MessageError::HalfLine { shown: shown(&line) }),
    }
}

/// The bytes of tensors that the line of a message announces.
///
/// # Errors
/// When it is no message.
pub(crate) fn announced(line: &[u8]) -> Result<u64, MessageError> {
    Ok(any_line(line)?.tensors)
}

fn any_line(line: &[u8]) -> Result<AnyLine, MessageError> {
    serde_json::from_slice(line).map_err(|source| not_a_message(line, source))
}

fn not_a_message(line: &[u8], source: serde_json::Error) -> MessageError {
    let (shown, source) = (shown(line), concise(source));
    if source.is_data() {
        MessageError::Form { shown, source }
    } else {
        MessageError::NotAMessage { shown, source }
    }
}

/// The beginning of a line, as text on one line.
pub(crate) fn shown(line: &[u8]) -> String {
    let clean = printable(&String::from_utf8_lossy(&line[..line.len().min(SHOWN)]));
    if line.len() > SHOWN { format!("{clean}…") } else { clean }
}

/// Why bytes are no message, or there are none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The other end cannot be read.
    #[error("the message could not be read")]
    Unreadable {
        /// What the system says.
        source: io::Error,
    },
    /// It has no form in JSON.
    #[error("the message has no form in JSON")]
    Unwritable {
        /// What the writer says.
        source: serde_json::Error,
    },
    /// A message of another form than is due.
    #[error("a message of another form, `{shown}`")]
    Form {
        /// How it begins.
        shown: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It is not JSON.
    #[error("a line that is no message, `{shown}`: whatever else is printed belongs on standard error")]
    NotAMessage {
        /// How it begins.
        shown: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Neither one request, nor one answer, nor one error.
    #[error("a line with not exactly one of `request`, `answer` and `error`, `{shown}`")]
    NotOne {
        /// How it begins.
        shown: String,
    },
    /// A line without an end.
    #[error("half a line, `{shown}`: a message ends with a line break")]
    HalfLine {
        /// How it begins.
        shown: String,
    },
    /// A line longer than any message's.
    #[error("a line of more than {LONGEST_LINE} bytes, `{shown}`")]
    LongLine {
        /// How it begins.
        shown: String,
    },
    /// More tensors than the answer can have.
    #[error(
        "{announced} bytes of tensors are announced, where {most} are the most that this answer can have"
    )]
    TooManyBytes {
        /// The number announced.
        announced: u64,
        /// The most there can be.
        most: u64,
    },
    /// Fewer bytes than announced.
    #[error("{announced} bytes of tensors are announced, and {found} came")]
    Truncated {
        /// The number announced.
        announced: u64,
        /// The number that came.
        found: u64,
    },
}
