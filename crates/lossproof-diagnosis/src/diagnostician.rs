//! Diagnoses subjects on demand, with a reference or without: what a campaign of laws asks about a subject
//! that broke one.

use crate::{
    catalogue::Bug,
    diagnosis::Diagnosis,
    explanations::Excluded,
    patterns::{Of, PatternDiagnosis},
};
use lossproof_laws::{Aspect, Examination, Examiner, Likeness};
use lossproof_subject::{Checked, Subject, SubjectError, Watchdog};
use std::{fmt, sync::Arc};

/// Makes a reference with the parameters of the subjects that are diagnosed.
type MakeReference = dyn Fn() -> Result<Box<dyn Subject>, SubjectError> + Send + Sync;

/// Diagnoses subjects by the known bugs, with a reference or without.
#[derive(Clone, Default)]
pub struct Diagnostician {
    reference: Option<Arc<MakeReference>>,
    excluded: Excluded,
    /// Whether ranks are apart, whatever a card says.
    ranks_apart: bool,
}

impl Diagnostician {
    /// With a reference that is taken to be right, for subjects with its parameters.
    #[must_use]
    pub fn with_reference(
        make: impl Fn() -> Result<Box<dyn Subject>, SubjectError> + Send + Sync + 'static,
    ) -> Self {
        Self { reference: Some(Arc::new(make)), ..Self::default() }
    }

    /// For subjects whose ranks are processes: bugs that only those show are thought of, too.
    #[must_use]
    pub fn of_ranks_apart(self) -> Self {
        Self { ranks_apart: true, ..self }
    }

    /// Who does not think of a bug, nor of those that look the same in this diagnosis: what is then said of a trainer
    /// that has it shows how a bug is taken that nobody knows.
    #[must_use]
    pub fn leaving_out(mut self, bug: &'static Bug, diagnosis: &Diagnosis) -> Self {
        self.excluded.extend(diagnosis.first().into_iter().chain([bug]).map(|bug| bug.id));
        self
    }

    /// Whether the ranks of a subject are processes. A card that takes no fewer than two is taken for one of such.
    fn are_ranks_apart(&self, subject: &mut dyn Subject, watchdog: &Watchdog) -> bool {
        let card = Checked::watched(subject, watchdog.clone()).map(|subject| subject.info());
        self.ranks_apart || card.is_ok_and(|info| info.limits.ranks.least > 1)
    }

    /// What a subject looks like; without the reference where that fails, which is said among what was not
    /// looked at. A call that hangs is told to the watchdog. The subject is left as [`Diagnosis::of`]
    /// leaves it.
    #[must_use]
    pub fn diagnose(&self, subject: &mut dyn Subject, watchdog: &Watchdog) -> Diagnosis {
        let alone = |subject: &mut dyn Subject| Diagnosis::alone_excluding(subject, watchdog, &self.excluded);
        let Some(make) = &self.reference else { return alone(subject) };
        let diagnosed = make().and_then(|mut reference| {
            Diagnosis::excluding(subject, Some(&mut *reference), watchdog, &self.excluded)
        });
        match diagnosed {
            Ok(diagnosis) => diagnosis,
            Err(error) => {
                let mut diagnosis = alone(subject);
                diagnosis.unseen.push(format!("what the reference says: {error}"));
                diagnosis
            }
        }
    }
}

impl Examiner for Diagnostician {
    /// Known bugs of a loop or of an objective are told by the laws of it that fail. Where none is like it, a step is
    /// looked at: it may be wrong in a way that shows there.
    fn examine(&self, subject: &mut dyn Subject, examination: &Examination<'_>) -> Likeness {
        let of = match examination.law.aspect() {
            Aspect::Step => None,
            Aspect::Training if self.are_ranks_apart(subject, examination.watchdog) => Some(Of::Ranks),
            Aspect::Training => Some(Of::Training),
            Aspect::Objective => Some(Of::Objectives),
        };
        let found =
            of.and_then(|of| PatternDiagnosis::watched(of, subject, examination.watchdog, examination.cases));
        if let Some(mut found) = found {
            found.bugs.retain(|bug| !self.excluded.contains(bug.id));
            if let Some(likeness) = found.likeness().filter(|likeness| likeness.is_of(examination.law)) {
                return likeness;
            }
        }
        let likeness = self.diagnose(subject, examination.watchdog).likeness();
        let Some(of) = of else { return likeness };
        let looks_like = format!("no known bug {}; as a step by itself {}", of.bugs(), likeness.looks_like);
        Likeness { looks_like, ..likeness }
    }
}

impl fmt::Debug for Diagnostician {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnostician")
            .field("reference", &self.reference.is_some())
            .field("excluded", &self.excluded)
            .field("ranks_apart", &self.ranks_apart)
            .finish()
    }
}
