//! Writing to stdout.

use miette::IntoDiagnostic;
use std::io::{self, ErrorKind, Write};

/// Writes `text` to stdout. A reader that has gone away (`lossproof explain … | head -1`) has what it wanted.
///
/// # Errors
/// When stdout takes no more for another reason, a full disk say.
pub(crate) fn print(text: &str) -> miette::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.into_diagnostic(),
    }
}
