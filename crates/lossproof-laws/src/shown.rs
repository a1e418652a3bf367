//! What a law is broken in over the cases of a campaign.

use crate::{Failure, Tried};
use lossproof_numerics::Violation;
use std::collections::BTreeMap;

/// What a law is broken in over several cases.
#[derive(Default)]
pub(crate) struct Shown {
    /// The first case that broke it as it is declared to be.
    declared: Option<Failure>,
    /// The first case on which the subject failed with an error that is not declared.
    errored: Option<Failure>,
    /// The first violation of each unit.
    units: BTreeMap<String, Violation>,
}

impl Shown {
    /// Adds a case that broke the law as it is declared to be.
    pub(crate) fn add_declared(&mut self, tried: &Tried, failure: impl FnOnce() -> Failure) {
        self.declared.get_or_insert_with(failure);
        self.note(tried);
    }

    /// Adds a case that broke the law in another way.
    pub(crate) fn add(&mut self, tried: &Tried, failure: impl FnOnce() -> Failure) {
        if tried.error().is_some() {
            self.errored.get_or_insert_with(failure);
        }
        self.note(tried);
    }

    /// What came before an error of the subject is no violation: it may be due to it.
    fn note(&mut self, tried: &Tried) {
        if tried.error().is_none() {
            for violation in tried.violations() {
                self.units.entry(violation.unit.clone()).or_insert(violation);
            }
        }
    }

    /// The first case that broke the law as declared; `None` where none did.
    pub(crate) fn into_failure(self) -> Option<Failure> {
        Some(Failure { elsewhere: self.units.into_values().collect(), ..self.declared? })
    }

    /// A failure, beside which the law was broken like this. One in which the subject fails with an error comes
    /// before others: a declaration of those would not speak of it.
    pub(crate) fn beside(self, failure: Failure) -> Failure {
        let failure = match self.errored {
            Some(errored) if failure.error.is_none() => errored,
            _ => failure,
        };
        Failure { elsewhere: self.units.into_values().collect(), ..failure }
    }
}
