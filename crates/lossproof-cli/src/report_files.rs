//! The files that a judging command writes beside what it prints: a page, JUnit XML, lines of JSON.

use crate::{exit::Exit, output};
use lossproof_report::{Outcome, Report, html, json_lines, junit};
use miette::{IntoDiagnostic, miette};
use std::path::{Path, PathBuf};

/// Which files are written beside what is printed.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Files beside what is printed")]
pub(crate) struct ReportFiles {
    /// Write a page: one file of HTML that needs neither a script nor a network.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the checks as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the checks as lines of JSON.
    #[arg(long, value_name = "FILE")]
    json_lines: Option<PathBuf>,
}

impl ReportFiles {
    /// Finds out whether they could be written, before the work that they are to tell of.
    ///
    /// # Errors
    /// When one could not.
    pub(crate) fn check_writable(&self) -> miette::Result<()> {
        let mut taken = Vec::new();
        for path in [&self.html, &self.junit, &self.json_lines].into_iter().flatten() {
            output::check_writable(Some(path))?;
            if taken.contains(&path) {
                return Err(miette!(
                    help = "give each report a file of its own",
                    "{} is named twice",
                    path.display()
                ));
            }
            taken.push(path);
        }
        Ok(())
    }

    /// Whether one is asked for.
    pub(crate) fn any(&self) -> bool {
        self.html.is_some() || self.junit.is_some() || self.json_lines.is_some()
    }

    /// Writes those that are asked for.
    ///
    /// # Errors
    /// When one cannot be written.
    pub(crate) fn write(&self, report: impl FnOnce() -> Report) -> miette::Result<()> {
        if !self.any() {
            return Ok(());
        }
        let report = report();
        let write = |path: &Option<PathBuf>, text: &dyn Fn() -> miette::Result<String>| match path {
            Some(path) => output::write(Path::new(path), text()?.as_bytes()),
            None => Ok(()),
        };
        write(&self.html, &|| Ok(html(&report)))?;
        write(&self.junit, &|| junit(&report).into_diagnostic())?;
        write(&self.json_lines, &|| json_lines(&report).into_diagnostic())
    }
}

/// The line that makes this report again.
pub(crate) fn command_line() -> String {
    let mut words = vec!["lossproof".to_owned()];
    words.extend(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()));
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// What an exit code says of a report.
pub(crate) fn outcome(exit: Exit) -> Outcome {
    match exit {
        Exit::Conforms => Outcome::Conforms,
        Exit::Deviates => Outcome::Deviates,
        Exit::Usage | Exit::Unchecked | Exit::Internal => Outcome::Unchecked,
    }
}
