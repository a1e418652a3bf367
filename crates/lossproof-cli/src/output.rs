//! Writing to stdout and to files.

use crate::colour;
use miette::{IntoDiagnostic, WrapErr};
use std::{
    io::{self, ErrorKind, Write},
    path::Path,
};

/// Writes `text` to stdout. A reader that has gone away (`lossproof explain … | head -1`) has what it wanted.
///
/// # Errors
/// When stdout takes no more for another reason, a full disk say.
pub(crate) fn print(text: &str) -> miette::Result<()> {
    // Names and messages may come from a trainer that somebody else wrote: a terminal obeys control characters.
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    let text = if colour::is_wanted() { colour::painted(&plain) } else { plain };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.into_diagnostic(),
    }
}

/// Writes a file atomically: whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, content: &[u8]) -> miette::Result<()> {
    lossproof_files::write(path, content)
        .into_diagnostic()
        .wrap_err_with(|| format!("could not write {}", path.display()))
}

/// Finds out whether a file could be written, before the work whose report it is to hold: another file is
/// made beside it and removed again. Without a file there is nothing to find out.
///
/// # Errors
/// When it could not.
pub(crate) fn check_writable(path: Option<&Path>) -> miette::Result<()> {
    let Some(path) = path else { return Ok(()) };
    lossproof_files::check_writable(path)
        .into_diagnostic()
        .wrap_err_with(|| format!("could not write {}", path.display()))
}

/// Writes a report as JSON, atomically.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_json(path: &Path, report: &impl serde::Serialize) -> miette::Result<()> {
    let mut json = serde_json::to_vec_pretty(report).into_diagnostic()?;
    json.push(b'\n');
    write(path, &json)
}
