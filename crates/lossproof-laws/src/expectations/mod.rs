//! What a package expects of its trainers: the file `lossproof.toml` beside its `Cargo.toml`.
//!
//! ```toml
//! # What `cargo test` expects of this package's trainers.
//!
//! [subject."my trainer"]
//! # The laws that decide, and that it keeps, at the test's own seed and number of cases.
//! decides = [
//!     "duplication",
//!     "order-invariance",
//! ]
//!
//! # A law that it breaks decides too, and is not repeated above.
//! [[subject."my trainer".fails]]
//! law = "reported-loss"
//! reason = "logs the mean of micro-batch means: issue 1234"
//! case = "fixtures/cases/reported-loss/8f37e983d25eecfd.json"
//! units = [{ name = "loss", ratio = 1.5 }]
//! ```
//!
//! The file is strict both ways. A pinned law that no longer decides is a failure, and so is a law that
//! decides without being pinned; a law that is declared to fail must fail on the case of its declaration, and
//! a declaration that is no longer true must be deleted. What is neither pinned nor declared may stay
//! undecided: the file is where the owner of a trainer accepts that. It cannot make a broken law green
//! without a case, a reason, and a run that breaks it on that very case.
//!
//! A declaration is of the units in it and of no others, so that it hides no other defect: a unit that fails
//! and is not listed is red, on whichever case, and so is one that is listed and no longer fails. How far one
//! is off on the declared case tells one defect in it from another: `ratio` is the multiple that it is of what
//! it should be, and where it is none, `deviation` its distance from that, relative to its scale. Both hold to
//! one percent of how far the unit is off. Drafts have them.
//!
//! A declared case on which the trainer fails, with an error or a breach of its contract such as a panic or a
//! gradient that is no number, needs `error = "…"` with a part of the message, as `#[should_panic(expected =
//! "…")]` does: a crash is never mistaken for the wrong number that somebody knew about. Such a declaration
//! needs no units; those in it may fail on other cases.
//!
//! [`Expectations::read`] reads the file, [`judge`] holds one law's [`Outcome`] to it without touching a
//! file, and [`Expectations::write`] drafts it from the outcomes of a run.

mod broken;
mod decides;
mod declarations;
mod difference;
mod draft;
mod error;
mod judgement;
mod outcome;
#[cfg(test)]
mod package;
mod read;

pub use broken::Broken;
pub use draft::{Draft, Undrafted};
pub use error::{ContentFault, ExpectationsError};
pub use judgement::{Judgement, Standing, judge};
pub use outcome::{Draw, Outcome, Replay};

use crate::Tried;
use lossproof_cases::Case;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The name of the file, beside the package's `Cargo.toml`.
pub const FILE: &str = "lossproof.toml";

/// What a package expects of its trainers.
#[derive(Clone, Debug)]
pub struct Expectations {
    path: PathBuf,
    subjects: BTreeMap<String, SubjectExpectations>,
}

/// What is expected of one trainer. Every law in it is one of [`LAWS`](crate::LAWS), and none is in it twice.
#[derive(Clone, Debug, Default)]
pub struct SubjectExpectations {
    /// The line of its table, counted from 1.
    line: usize,
    decides: BTreeSet<&'static str>,
    fails: BTreeMap<&'static str, DeclaredFailure>,
}

/// A law that a trainer is known to break.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredFailure {
    /// Why the law is broken, in the words of whoever declared it.
    pub reason: String,
    /// The file of the case as it was written: relative to the folder of the expectations.
    pub file: PathBuf,
    /// The case that breaks the law.
    pub case: Case,
    /// Where the trainer fails on the case, with an error or by a breach of its contract: a part of the
    /// message.
    pub error: Option<String>,
    /// What of the law is broken, by the names of what it certifies.
    pub units: BTreeMap<String, DeclaredUnit>,
}

/// How far a unit that is declared to fail is off on the declared case, as far as that is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeclaredUnit {
    /// The multiple that it is of what it should be.
    pub ratio: Option<f64>,
    /// Its distance from what it should be, relative to its scale.
    pub deviation: Option<f64>,
}

impl Expectations {
    /// Reads the expectations, and the case file of every declared failure. `None` where there is no such
    /// file.
    ///
    /// # Errors
    /// [`ExpectationsError`] names the file, the line and the remedy: what is no TOML or has another form,
    /// laws that there are not, laws that are named twice, reasons that are missing or were left as a draft,
    /// failures of which no unit is named, and case files that cannot be read or belong to another law.
    pub fn read(path: &Path) -> Result<Option<Self>, ExpectationsError> {
        read::read(path, read::Reasons::Written)
    }

    /// Reads as [`Self::read`] does, but takes the reasons that a draft left to be written, and failures
    /// without units: for the run that drafts again.
    ///
    /// # Errors
    /// Those of [`Self::read`], but for reasons and units.
    pub fn read_draft(path: &Path) -> Result<Option<Self>, ExpectationsError> {
        read::read(path, read::Reasons::Drafted)
    }

    /// Drafts the expectations at `path` from the outcomes of a run, each with the name of its subject.
    ///
    /// Laws that pass are pinned, laws that are broken are declared with the units that failed and a reason
    /// that is left to be written, and what is undecided is neither. Reasons and comments stay where a law
    /// stays as it was, and so do the tables of other subjects and laws that the run did not try. The file, or
    /// the one that a link at `path` leads to, is replaced atomically, and runs that write at the same time
    /// wait for one another.
    ///
    /// # Errors
    /// When an outcome is not of the test's own cases, or the file cannot be read or written, or is no TOML.
    pub fn write(path: &Path, outcomes: &[(String, Outcome)]) -> Result<Draft, ExpectationsError> {
        draft::write(path, outcomes)
    }

    /// What is expected of this subject; `None` where the file does not list it.
    #[must_use]
    pub fn of(&self, subject: &str) -> Option<&SubjectExpectations> {
        self.subjects.get(subject)
    }

    /// One error for each subject that the file lists and that is not among `tested`: a table that pins
    /// nothing, because its trainer was renamed or is no longer tested.
    #[must_use]
    pub fn untested(&self, tested: &[&str]) -> Vec<ExpectationsError> {
        let mut untested = Vec::new();
        for (subject, expectations) in &self.subjects {
            if !tested.contains(&subject.as_str()) {
                untested.push(ExpectationsError::Content {
                    path: self.path.clone(),
                    line: expectations.line,
                    fault: Box::new(ContentFault::UnknownSubject {
                        subject: lossproof_spec::shortened(subject),
                    }),
                });
            }
        }
        untested
    }
}

impl SubjectExpectations {
    /// Whether the law is expected to decide, and to be kept.
    #[must_use]
    pub fn pins(&self, law: &str) -> bool {
        self.decides.contains(law)
    }

    /// The failure that is declared of the law, whose case is to be replayed.
    #[must_use]
    pub fn declared(&self, law: &str) -> Option<&DeclaredFailure> {
        self.fails.get(law)
    }
}

impl DeclaredFailure {
    /// Whether the trainer does on the declared case what is declared of it.
    #[must_use]
    pub fn holds(&self, replay: &Replay) -> bool {
        outcome::holds(self.error.as_deref(), replay)
    }

    /// Whether a case that broke the law shows nothing but what is declared: the error, or some of the units.
    pub(crate) fn covers(&self, tried: &Tried) -> bool {
        match (tried.error(), &self.error) {
            (Some(found), Some(declared)) => outcome::is_error(&found.to_string(), declared),
            (Some(_), None) => false,
            (None, _) => Broken::of(&tried.violations()).units().all(|unit| self.units.contains_key(unit)),
        }
    }
}
