//! Writing to stdout and to files.

use crate::colour;
use miette::{IntoDiagnostic, WrapErr};
#[cfg(unix)]
use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};
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

/// The directory that a file lies in.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file atomically: whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, content: &[u8]) -> miette::Result<()> {
    let write = || -> io::Result<()> {
        let mut made = tempfile::Builder::new();
        // As any other file: who else may read it, the user's mask says.
        #[cfg(unix)]
        made.permissions(Permissions::from_mode(0o666));
        let mut file = made.tempfile_in(directory(path))?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().into_diagnostic().wrap_err_with(|| format!("could not write {}", path.display()))
}

/// Finds out whether a file could be written, before the work whose report it is to hold: another file is
/// made beside it and removed again. Without a file there is nothing to find out.
///
/// # Errors
/// When it could not.
pub(crate) fn check_writable(path: Option<&Path>) -> miette::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let check = || -> io::Result<()> {
        if path.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        tempfile::NamedTempFile::new_in(directory(path))?.close()
    };
    check().into_diagnostic().wrap_err_with(|| format!("could not write {}", path.display()))
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
