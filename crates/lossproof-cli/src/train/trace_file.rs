//! The trace of a loop: a line of JSON for the run, and one for each event.

use lossproof_loop::{Event, Plan, Settings, checkpoint::Environment};
use miette::{Diagnostic, IntoDiagnostic, WrapErr};
use serde::Serialize;
use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

/// The schema of the lines.
const SCHEMA: &str = "lossproof-loop-trace/1";

/// A trace that is written event by event: what was logged before a crash is there.
pub(super) struct TraceFile {
    path: PathBuf,
    file: File,
}

/// The first line: which run it is.
#[derive(Serialize)]
pub(super) struct Header<'a> {
    schema: &'static str,
    settings: &'a Settings,
    environment: &'a Environment,
    updates: u64,
    epochs: u32,
}

/// A file that is not the trace of this run.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum OtherFile {
    #[error("{} is there, and it is not the trace of this run", path.display())]
    #[diagnostic(help("give --trace another file, or remove this one"))]
    Other { path: PathBuf },
    #[error("{} has {found} events, the checkpoint was written after {expected}", path.display())]
    #[diagnostic(help("--trace continues the file that the run has written: give that one, or none"))]
    Short { path: PathBuf, found: u64, expected: u64 },
}

impl<'a> Header<'a> {
    pub(super) fn new(settings: &'a Settings, environment: &'a Environment, plan: &Plan) -> Self {
        Self { schema: SCHEMA, settings, environment, updates: plan.updates, epochs: plan.epochs }
    }
}

impl TraceFile {
    /// The trace of a run that begins, or goes on after so many events. A file that is there is taken only if it is the
    /// trace of the same run; it is cut to what the run goes on from.
    pub(super) fn new(path: &Path, header: &Header<'_>, events: Option<u64>) -> miette::Result<Self> {
        let mut first = serde_json::to_string(header).into_diagnostic()?;
        first.push('\n');
        let trace = open(path, &first, events);
        trace.wrap_err_with(|| format!("could not write {}", path.display()))
    }

    /// The next line.
    pub(super) fn event(&mut self, event: &Event) -> miette::Result<()> {
        let mut line = serde_json::to_string(event).into_diagnostic()?;
        line.push('\n');
        let written = self.file.write_all(line.as_bytes()).into_diagnostic();
        written.wrap_err_with(|| format!("could not write {}", self.path.display()))
    }

    /// Makes what was written durable, before a checkpoint says that it is there.
    pub(super) fn sync(&self) -> miette::Result<()> {
        // What is no regular file, a pipe say, has nothing to sync.
        if self.file.metadata().into_diagnostic()?.is_file() {
            self.file.sync_data().into_diagnostic()?;
        }
        Ok(())
    }
}

/// Opens a trace behind its first line and so many events.
fn open(path: &Path, first: &str, events: Option<u64>) -> miette::Result<TraceFile> {
    let length = match fs::metadata(path) {
        Ok(there) if there.is_file() && there.len() > 0 => length(path, first, events.unwrap_or(0))?,
        // A pipe, an empty file, or none yet.
        _ if events.unwrap_or(0) == 0 => 0,
        _ => {
            return Err(
                OtherFile::Short { path: path.to_owned(), found: 0, expected: events.unwrap_or(0) }.into()
            );
        }
    };
    let mut file = OpenOptions::new().create(true).append(true).open(path).into_diagnostic()?;
    if file.metadata().into_diagnostic()?.is_file() {
        file.set_len(length).into_diagnostic()?;
    }
    if length == 0 {
        file.write_all(first.as_bytes()).into_diagnostic()?;
    }
    Ok(TraceFile { path: path.to_owned(), file })
}

/// Bytes of the first line of a trace and so many events; the first line must be this one.
fn length(path: &Path, first: &str, events: u64) -> miette::Result<u64> {
    let mut lines = BufReader::new(File::open(path).into_diagnostic()?).split(b'\n');
    let there = lines.next().transpose().into_diagnostic()?.unwrap_or_default();
    if there != first.trim_end().as_bytes() {
        return Err(OtherFile::Other { path: path.to_owned() }.into());
    }
    let bytes = |line: &[u8]| u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
    let mut length = bytes(&there);
    let whole = fs::metadata(path).into_diagnostic()?.len();
    for found in 0..events {
        let line = lines.next().transpose().into_diagnostic()?;
        length += line.as_deref().map_or(1, bytes);
        if line.is_none() || length > whole {
            return Err(OtherFile::Short { path: path.to_owned(), found, expected: events }.into());
        }
    }
    Ok(length)
}
