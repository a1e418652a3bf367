//! Who is asked what a subject that broke a law looks like.

use lossproof_subject::{Subject, Watchdog};
use std::fmt;

/// Says what a subject that broke a law looks like. The laws know no bug by name; lossproof-diagnosis does.
pub trait Examiner: fmt::Debug + Send + Sync {
    /// What the subject looks like. A call that hangs is told to the watchdog. The subject is left with whatever
    /// parameters, spec and optimizer the examination needed.
    fn examine(&self, subject: &mut dyn Subject, watchdog: &Watchdog) -> Likeness;
}

/// What a subject looks like, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Likeness {
    /// What it looks like, how sure that is, and why: one finding a line.
    pub looks_like: String,
    /// What to change in it, one remedy a line. `None` where nothing known looks like it.
    pub change: Option<String>,
}
