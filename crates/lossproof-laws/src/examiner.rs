//! Who is asked what a subject that broke a law looks like.

use crate::{Aspect, Law};
use lossproof_subject::{Subject, Watchdog};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Says what a subject that broke a law looks like. The laws know no bug by name; lossproof-diagnosis does.
pub trait Examiner: fmt::Debug + Send + Sync {
    /// What the subject looks like in the aspect that a law is about. A call that hangs is told to the watchdog. The
    /// subject is left with whatever parameters, spec and optimizer the examination needed.
    fn examine(&self, subject: &mut dyn Subject, examination: &Examination<'_>) -> Likeness;
}

/// What an examination is for.
#[derive(Clone, Copy, Debug)]
pub struct Examination<'a> {
    /// The law that failed.
    pub law: &'a Law,
    /// Cases that it was to be tried on: more are not worth it to whoever asks.
    pub cases: u32,
    /// How long a call of the subject may take, and who hears when it is over.
    pub watchdog: &'a Watchdog,
}

/// What a subject looks like, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Likeness {
    /// What it looks like, how sure that is, and why: one finding a line.
    pub looks_like: String,
    /// What to change in it, one remedy a line. `None` where nothing known looks like it.
    pub change: Option<String>,
    /// The laws that it is about, where it is about these alone.
    pub of_laws: Option<BTreeSet<&'static str>>,
}

impl Likeness {
    /// Nothing that has a remedy.
    fn nothing(looks_like: String) -> Self {
        Self { looks_like, change: None, of_laws: None }
    }

    /// Whether it says anything of a law.
    #[must_use]
    pub fn is_of(&self, law: &Law) -> bool {
        self.of_laws.as_ref().is_none_or(|laws| laws.contains(law.id()))
    }

    /// What it says of one law.
    fn of(&self, law: &Law) -> Self {
        match &self.of_laws {
            Some(laws) if !self.is_of(law) => {
                let others: Vec<&str> = laws.iter().copied().collect();
                Self::nothing(format!(
                    "nothing: in the cases of the examination this law holds, and these fail: {}",
                    others.join(", ")
                ))
            }
            _ => self.clone(),
        }
    }
}

/// Says of one trainer what was said of it before: what it looks like depends on the aspect that a law is about, and an
/// examination takes longer than most laws.
#[derive(Debug)]
pub struct RememberingExaminer {
    examiner: Arc<dyn Examiner>,
    /// `None` while it is being examined.
    found: Mutex<BTreeMap<Aspect, Option<Likeness>>>,
}

impl RememberingExaminer {
    /// What `examiner` says of one trainer.
    #[must_use]
    pub fn new(examiner: Arc<dyn Examiner>) -> Self {
        Self { examiner, found: Mutex::default() }
    }
}

impl Examiner for RememberingExaminer {
    fn examine(&self, subject: &mut dyn Subject, examination: &Examination<'_>) -> Likeness {
        let (law, aspect) = (examination.law, examination.law.aspect());
        let found = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let former = found().get(&aspect).cloned();
        match former {
            Some(Some(known)) => return known.of(law),
            // Nobody waits for an examination: where the trainer hangs in it that would be for ever. One of a step is
            // short, and made twice rather than looked up.
            Some(None) if aspect != Aspect::Step => {
                return Likeness::nothing(
                    "what is said under another law that fails, for all of them".to_owned(),
                );
            }
            _ => {}
        }
        found().insert(aspect, None);
        let likeness = self.examiner.examine(subject, examination);
        found().insert(aspect, Some(likeness.clone()));
        likeness.of(law)
    }
}
