//! The trace of a loop: a line of JSON for the run, and one for each event.

use lossproof_loop::{
    Event, Plan, Settings,
    checkpoint::{Checkpoint, Environment},
};
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

#[derive(Serialize)]
struct Header<'a> {
    schema: &'static str,
    settings: &'a Settings,
    environment: &'a Environment,
    updates: u64,
    epochs: u32,
}

/// A trace that is not the one of a resumed run.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{} has {found} events, the checkpoint was written after {expected}", path.display())]
#[diagnostic(help("--trace continues the file that the run has written: give that one, or none"))]
struct OtherTrace {
    path: PathBuf,
    found: u64,
    expected: u64,
}

impl TraceFile {
    /// A new file, or that of the run whose checkpoint is given, without the events after it.
    pub(super) fn new(path: &Path, kept: Option<&Checkpoint>) -> miette::Result<Self> {
        let file = match kept {
            None => File::create(path).into_diagnostic(),
            Some(kept) => continued(path, kept.progress.events),
        };
        let file = file.wrap_err_with(|| format!("could not write {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// The first line.
    pub(super) fn header(
        &mut self,
        settings: &Settings,
        environment: &Environment,
        plan: &Plan,
    ) -> miette::Result<()> {
        let (updates, epochs) = (plan.updates, plan.epochs);
        self.line(&Header { schema: SCHEMA, settings, environment, updates, epochs })
    }

    /// The next line.
    pub(super) fn event(&mut self, event: &Event) -> miette::Result<()> {
        self.line(event)
    }

    fn line(&mut self, value: &impl Serialize) -> miette::Result<()> {
        let mut line = serde_json::to_string(value).into_diagnostic()?;
        line.push('\n');
        let written = self.file.write_all(line.as_bytes()).into_diagnostic();
        written.wrap_err_with(|| format!("could not write {}", self.path.display()))
    }
}

/// Cuts a file after its first line and so many events, and goes on there.
fn continued(path: &Path, events: u64) -> miette::Result<File> {
    let lines = BufReader::new(File::open(path).into_diagnostic()?);
    let (mut whole, mut length) = (0_u64, 0_u64);
    for line in lines.split(b'\n') {
        let line = line.into_diagnostic()?;
        whole += 1;
        length += u64::try_from(line.len()).unwrap_or(u64::MAX) + 1;
        if whole == events + 1 {
            break;
        }
    }
    let there = fs::metadata(path).into_diagnostic()?.len();
    if whole < events + 1 || length > there {
        let found = whole.saturating_sub(1);
        return Err(OtherTrace { path: path.to_owned(), found, expected: events }.into());
    }
    let file = OpenOptions::new().append(true).open(path).into_diagnostic()?;
    file.set_len(length).into_diagnostic()?;
    Ok(file)
}
