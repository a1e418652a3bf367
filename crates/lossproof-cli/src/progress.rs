//! How far a command is: a bar on a terminal, a line now and then elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often a line is written where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(15);

/// How far a command is, on standard error.
pub(crate) struct ProgressDisplay {
    bar: ProgressBar,
    /// When the last line was written.
    said: Mutex<Instant>,
}

impl ProgressDisplay {
    /// Of something whose end is not known.
    pub(crate) fn spinner() -> Self {
        let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        Self::on(ProgressBar::new_spinner().with_style(style))
    }

    /// Of the updates of a run.
    #[cfg(feature = "trainers")]
    pub(crate) fn of_updates(updates: u64) -> Self {
        let style = ProgressStyle::with_template("{elapsed} {bar:40} update {pos} of {len}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::on(ProgressBar::new(updates).with_style(style))
    }

    /// On a bar that is there already.
    pub(crate) fn on(bar: ProgressBar) -> Self {
        Self { bar, said: Mutex::new(Instant::now()) }
    }

    /// Says what is done now.
    pub(crate) fn at(&self, what: &str) {
        if self.bar.is_hidden() {
            self.line(what);
        } else {
            self.bar.set_message(what.to_owned());
            self.bar.tick();
        }
    }

    /// Says which step of those in sight was done.
    #[cfg(feature = "trainers")]
    pub(crate) fn step(&self, done: u64, what: &str) {
        if self.bar.is_hidden() {
            self.line(&format!("{what} {done} of {}", self.bar.length().unwrap_or(done)));
        } else {
            self.bar.set_position(done);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A line, if the last one was long ago. That nobody reads it changes nothing.
    fn line(&self, what: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.elapsed() >= BETWEEN_LINES {
            *said = Instant::now();
            let _ = writeln!(std::io::stderr(), "… {what}");
        }
    }
}
