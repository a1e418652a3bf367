//! Diagnoses subjects on demand, with a reference or without: what a campaign of laws asks about a subject
//! that broke one.

use crate::{catalogue::Bug, diagnosis::Diagnosis, explanations::Excluded};
use lossproof_laws::Examiner;
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

    /// Who does not think of these bugs: what is then said of a trainer that has one of them shows how a bug is
    /// taken that nobody knows.
    #[must_use]
    pub fn without(mut self, bugs: impl IntoIterator<Item = &'static Bug>) -> Self {
        self.excluded.extend(bugs.into_iter().map(|bug| bug.id));
        self
    }

    /// What a subject looks like; without the reference where that fails, which is said among what was not
    /// looked at. A call that hangs is told to the watchdog. The subject is left as [`Diagnosis::of`]
    /// leaves it.
    #[must_use]
    pub fn diagnose(&self, subject: &mut dyn Subject, watchdog: &Watchdog) -> Diagnosis {
        let Some(make) = &self.reference else { return self.alone(subject, watchdog) };
        let diagnosed = make().and_then(|mut reference| {
            Diagnosis::excluding(subject, Some(&mut *reference), watchdog, &self.excluded)
        });
        match diagnosed {
            Ok(diagnosis) => diagnosis,
            Err(error) => {
                let mut diagnosis = self.alone(subject, watchdog);
                diagnosis.unseen.push(format!("what the reference says: {error}"));
                diagnosis
            }
        }
    }
}

impl Diagnostician {
    /// What a subject looks like without the reference.
    fn alone(&self, subject: &mut dyn Subject, watchdog: &Watchdog) -> Diagnosis {
        Diagnosis::excluding(subject, None, watchdog, &self.excluded)
            .expect("invariant: closed forms do not fail, and there is no reference")
    }
}

impl Examiner for Diagnostician {
    fn examine(&self, subject: &mut dyn Subject, watchdog: &Watchdog) -> String {
        let diagnosis = self.diagnose(subject, watchdog);
        // A law fails, so something is wrong.
        if diagnosis.sound {
            format!("what the law saw is outside of what a diagnosis looks at: {diagnosis}")
        } else {
            diagnosis.to_string()
        }
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
