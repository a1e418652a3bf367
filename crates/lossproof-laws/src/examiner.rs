//! Who is asked what a subject that broke a law looks like.

use lossproof_subject::{Subject, Watchdog};
use std::fmt;

/// Says what a subject that broke a law looks like. The laws know no bug by name; lossproof-diagnosis does.
pub trait Examiner: fmt::Debug + Send + Sync {
    /// What the subject looks like, in words: one finding a line. A call that hangs is told to the watchdog.
    /// The subject is left with whatever parameters, spec and optimizer the examination needed.
    fn examine(&self, subject: &mut dyn Subject, watchdog: &Watchdog) -> String;
}
