//! Writing to stdout and to files.

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

/// Writes a report as JSON, atomically: whole or not at all.
///
/// # Errors
/// When the file cannot be written.
#[cfg(all(feature = "reference", feature = "torch"))]
pub(crate) fn write_json(path: &std::path::Path, report: &impl serde::Serialize) -> miette::Result<()> {
    use miette::WrapErr;
    use std::path::Path;

    let write = || -> io::Result<()> {
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, report)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().into_diagnostic().wrap_err_with(|| format!("could not write {}", path.display()))
}
