//! From the text of a file to a log.

mod columns;
mod json_lines;
mod main_log;
mod traces;
mod trainer_state;

use crate::{Log, Names};
use lossproof_cases::{ReadError, read_bytes};
use lossproof_trace::TraceError;
use std::path::Path;

/// The most bytes of a log that are read.
pub const LARGEST: u64 = 256 << 20;

/// Why a file is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// It cannot be read at all.
    #[error("the log could not be read")]
    Read(#[from] ReadError),
    /// It is no text.
    #[error("{name} is no text (not UTF-8 from byte {at} on): give a log, not a checkpoint or an event file")]
    NoText {
        /// The log.
        name: String,
        /// The first byte that belongs to no character.
        at: usize,
    },
    /// A line that is not what stands there.
    #[error("{name}, line {line}: {problem}")]
    Line {
        /// The log.
        name: String,
        /// Its number, from 1.
        line: usize,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A file of a known form with a mistake in it.
    #[error("{name} is no {format}: {problem}")]
    Form {
        /// The log.
        name: String,
        /// What it looks like.
        format: crate::Format,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A trace with a mistake in it.
    #[error("{name} is no loss trace")]
    Trace {
        /// The log.
        name: String,
        /// What is wrong.
        source: Box<TraceError>,
    },
    /// Nothing that is known was logged.
    #[error(
        "{name} holds no number of a training run: known are lossproof's traces, trainer_state.json of transformers, \
         main.log of llm.c, and lines of JSON with names such as step, loss, grad_norm, lr (say what others are with \
         --name NAME=loss)"
    )]
    Nothing {
        /// The log.
        name: String,
    },
}

/// Reads a log of any known form; which one it is, its text says.
///
/// # Errors
/// When it cannot be read or is of no known form.
pub fn read(path: &Path, names: &Names) -> Result<Log, LogError> {
    let bytes = read_bytes(path, LARGEST)?;
    let name = path.display().to_string();
    let text = String::from_utf8(bytes)
        .map_err(|error| LogError::NoText { name: name.clone(), at: error.utf8_error().valid_up_to() })?;
    read_text(&name, &text, names)
}

/// Makes a log of a text of any known form.
///
/// # Errors
/// When it is of no known form, or has a mistake in it.
pub fn read_text(name: &str, text: &str, names: &Names) -> Result<Log, LogError> {
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim_start();
    let log = if main_log::is_line(first) {
        main_log::read(name, text)?
    } else if !first.starts_with('{') {
        return Err(LogError::Nothing { name: name.to_owned() });
    } else if first.contains("\"lossproof-trace/") {
        traces::read(name, text)?
    } else if first.contains("\"lossproof-loop-trace/") {
        traces::read_loop(name, text)?
    } else if text.contains("\"log_history\"") {
        trainer_state::read(name, text, names)?
    } else {
        json_lines::read(name, text, names)?
    };
    if log.rows.iter().all(|row| row.values.is_empty()) {
        return Err(LogError::Nothing { name: name.to_owned() });
    }
    Ok(log)
}

#[cfg(test)]
mod tests;
