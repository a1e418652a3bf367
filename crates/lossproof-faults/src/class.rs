//! What becomes of a fault behind one claim, seen through a profile: whether it changes anything that is seen,
//! whether an honest trainer could show the same, and whether a law kills it.

use crate::{Fault, Keyhole, KeyholeError, lawful::is_lawful, without_fault, witnesses::Witnesses};
use lossproof_cases::strategies::Size;
use lossproof_laws::{Campaign, LAWS, Law};
use lossproof_spec::Dtype;
use lossproof_subject::Subject;
use std::{error::Error, fmt};

/// Random batches on which a faulty trainer is compared with the honest one.
const CHANGED: u32 = 96;

/// What becomes of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The laws of its clauses hold, and it changes no answer on 96 random batches.
    Unchanged,
    /// No law fails, and an honest trainer of another architecture gives the same answers, and was made.
    Lawful,
    /// A law fails that no trainer may break.
    Killed,
    /// It changes answers, no honest trainer is known that gives them, and no law fails.
    Survived,
}

impl Class {
    /// Whether there is something to be seen of the fault that no honest trainer shows.
    #[must_use]
    pub const fn is_visible(self) -> bool {
        matches!(self, Self::Killed | Self::Survived)
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unchanged, Self::Lawful, Self::Killed, Self::Survived];

    /// The class that a letter stands for.
    #[must_use]
    pub fn of_letter(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.letter() == letter)
    }

    /// The letter that stands for it in the list of classes.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Unchanged => '.',
            Self::Lawful => 'l',
            Self::Killed => 'k',
            Self::Survived => 'S',
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Lawful => "lawful",
            Self::Killed => "killed",
            Self::Survived => "SURVIVED",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A fault, and what became of it.
#[derive(Clone, Debug)]
pub struct Classified {
    /// The fault.
    pub fault: &'static Fault,
    /// What became of it.
    pub class: Class,
    /// The first law that failed, those of the clauses that the fault violates first.
    pub killed_by: Option<&'static Law>,
}

impl Keyhole {
    /// What becomes of a fault in trainers of this precision, of which `honest` makes one.
    ///
    /// The laws of the clauses that the fault violates come first, for they mostly decide. Whether it changes an
    /// answer is asked before all other laws, which are not run where it does not: they might see what the random
    /// batches do not.
    /// Lawful is only what all of them let pass: some hold a trainer to what its card says of its parameters,
    /// which another architecture that gives the same answers would not.
    ///
    /// # Errors
    /// When the trainer does not have the claim, or the campaign cannot run.
    pub fn classify(
        &self,
        fault: &'static Fault,
        campaign: &Campaign,
        dtype: Dtype,
        honest: impl Fn(Dtype) -> Result<Box<dyn Subject>, Box<dyn Error + Send + Sync>>,
    ) -> Result<Classified, KeyholeError> {
        let honest = |dtype| honest(dtype).map_err(KeyholeError::Honest);
        let faulty = || -> Result<_, KeyholeError> { Ok(self.of(fault.inject(honest(dtype)?))?) };
        let violated =
            |law: &&'static Law| law.clauses().any(|clause| fault.bug.clauses.contains(&clause.id));
        let (own, others): (Vec<_>, Vec<_>) = LAWS.iter().filter(|law| law.is_binding()).partition(violated);
        let mut subject = faulty()?;
        let mut killed_by = campaign.first_to_fail(own, &mut *subject)?;
        if killed_by.is_none() {
            let witnesses = Witnesses { count: CHANGED, size: Size::default(), seed: campaign.seed };
            let mut unbroken = self.of(without_fault(honest(dtype)?))?;
            if !witnesses.tell_apart(&mut *unbroken, &mut *faulty()?) {
                return Ok(Classified { fault, class: Class::Unchanged, killed_by });
            }
            killed_by = campaign.first_to_fail(others, &mut *subject)?;
        }
        let class = if killed_by.is_some() {
            Class::Killed
        } else if is_lawful(self, fault, campaign.seed, honest, dtype)? {
            Class::Lawful
        } else {
            Class::Survived
        };
        Ok(Classified { fault, class, killed_by })
    }
}
