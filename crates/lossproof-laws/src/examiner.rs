//! Who is asked what a subject that broke a law looks like.

use crate::{Aspect, Law};
use lossproof_subject::{Subject, Watchdog};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Says what a subject that broke a law looks like. The laws know no bug by name; lossproof-diagnosis does.
pub trait Examiner: fmt::Debug + Send + Sync {
    /// What the subject looks like in the aspect that a law is about. A call that hangs is told to the watchdog. The
    /// subject is left with whatever parameters, spec and optimizer the examination needed.
    fn examine(&self, subject: &mut dyn Subject, law: &Law, watchdog: &Watchdog) -> Likeness;
}

/// What a subject looks like, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Likeness {
    /// What it looks like, how sure that is, and why: one finding a line.
    pub looks_like: String,
    /// What to change in it, one remedy a line. `None` where nothing known looks like it.
    pub change: Option<String>,
}

/// Says of one trainer what was said of it before: what it looks like depends on the aspect and not on which law of it
/// fails, and an examination takes longer than most laws.
#[derive(Debug)]
pub struct RememberingExaminer {
    examiner: Arc<dyn Examiner>,
    found: Mutex<BTreeMap<Aspect, Likeness>>,
}

impl RememberingExaminer {
    /// What `examiner` says of one trainer.
    #[must_use]
    pub fn new(examiner: Arc<dyn Examiner>) -> Self {
        Self { examiner, found: Mutex::default() }
    }
}

impl Examiner for RememberingExaminer {
    fn examine(&self, subject: &mut dyn Subject, law: &Law, watchdog: &Watchdog) -> Likeness {
        let found = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = found().get(&law.aspect()) {
            return known.clone();
        }
        // Nothing is locked meanwhile: who waited would wait for ever where the trainer hangs.
        let likeness = self.examiner.examine(subject, law, watchdog);
        found().insert(law.aspect(), likeness.clone());
        likeness
    }
}
