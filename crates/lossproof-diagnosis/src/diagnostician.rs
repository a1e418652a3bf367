//! Diagnoses subjects on demand, with a reference or without: what a campaign of laws asks about a subject
//! that broke one.

use crate::{catalogue::Bug, diagnosis::Diagnosis, explanations::Excluded};
use lossproof_laws::{Examiner, Likeness};
use lossproof_subject::{Subject, SubjectError, Watchdog};
use std::{fmt, sync::Arc};

/// Makes a reference with the parameters of the subjects that are diagnosed.
type MakeReference = dyn Fn() -> Result<Box<dyn Subject>, SubjectError> + Send + Sync;

/// Diagnoses subjects by the known bugs, with a reference or without.
#[derive(Clone, Default)]
pub struct Diagnostician {
    reference: Option<Arc<MakeReference>>,
    excluded: Excluded,
}

impl Diagnostician {
    /// With a reference that is taken to be right, for subjects with its parameters.
    #[must_use]
    pub fn with_reference(
        make: impl Fn() -> Result<Box<dyn Subject>, SubjectError> + Send + Sync + 'static,
    ) -> Self {
        Self { reference: Some(Arc::new(make)), excluded: Excluded::new() }
    }

    /// Who does not think of a bug, nor of those that look the same in this diagnosis: what is then said of a trainer
    /// that has it shows how a bug is taken that nobody knows.
    #[must_use]
    pub fn leaving_out(mut self, bug: &'static Bug, diagnosis: &Diagnosis) -> Self {
        self.excluded.extend(diagnosis.first().into_iter().chain([bug]).map(|bug| bug.id));
        self
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
    fn examine(&self, subject: &mut dyn Subject, watchdog: &Watchdog) -> Likeness {
        self.diagnose(subject, watchdog).likeness()
    }
}

impl fmt::Debug for Diagnostician {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnostician")
            .field("reference", &self.reference.is_some())
            .field("excluded", &self.excluded)
            .finish()
    }
}
