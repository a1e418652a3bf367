//! Hostile subjects: what a suite must never call green, each as an honest trainer in which little is
//! changed.
//!
//! A fault is a bug of a trainer that wants to be right. A hostile subject is one that a suite can be fooled
//! by: it answers in a form that nobody looks at, refuses where it would be convicted, is wrong exactly where
//! no law has an anchor, or falls silent. Each says what must come of it. Most are a row of [`Hooks`]; those
//! whose optimizer step is wrong are a trainer with one part replaced, as the faults are.

mod answers;
mod conduct;
mod declared;
mod memory;
mod models;
mod numbers;
mod steps;
mod together;

use crate::{
    faulty::Faulty,
    kit::{Hooks, wrap},
    trainer::TrainerParts,
};
use lossproof_gpt2::Config;
use lossproof_spec::Dtype;
use lossproof_subject::Subject;
use std::fmt;

/// A subject that must not come out green.
#[derive(Clone, Copy)]
pub struct Hostile {
    /// Names it.
    pub id: &'static str,
    /// What it does, in one phrase.
    pub what: &'static str,
    /// What must come of it.
    pub must: Outcome,
    /// What must stand in what is said of it; anything where this is empty.
    pub says: &'static str,
    /// What shows it.
    pub held_to: HeldTo,
    /// The model it goes around.
    pub config: Config,
    /// The arithmetic of that model.
    pub dtype: Dtype,
    /// Random cases of each law, where it is only few cases that it hides from.
    pub cases: Option<u32>,
    change: fn(Box<dyn Subject>) -> Box<dyn Subject>,
}

/// What can come of a subject that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is convicted.
    Red,
    /// It fails, or makes judging impossible, and that is said.
    Errored,
    /// Nothing convicts it, and what was not looked at is named.
    NotCovered,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Red => "red",
            Self::Errored => "errored",
            Self::NotCovered => "not covered",
        })
    }
}

/// What a hostile subject is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldTo {
    /// The laws, all of them.
    Laws,
    /// The laws with these ids: others see the subject for another reason.
    Only(&'static [&'static str]),
    /// A verification against an independent implementation.
    Verification,
    /// A verification against another of its own kind.
    ItsOwnKind,
}

/// A subject that is held to all laws on gpt2-pico in f64.
const fn hostile(
    id: &'static str,
    what: &'static str,
    must: Outcome,
    change: fn(Box<dyn Subject>) -> Box<dyn Subject>,
) -> Hostile {
    let (config, dtype) = (Config::Pico, Dtype::F64);
    Hostile { id, what, must, says: "", held_to: HeldTo::Laws, config, dtype, cases: None, change }
}

impl Hostile {
    /// The same, of which this must be said.
    const fn saying(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    /// The same, held to this.
    const fn held_to(self, held_to: HeldTo) -> Self {
        Self { held_to, ..self }
    }

    /// The same around another model.
    const fn around(self, config: Config, dtype: Dtype) -> Self {
        Self { config, dtype, ..self }
    }

    /// The same, tried on so many cases only.
    const fn on_cases(self, cases: u32) -> Self {
        Self { cases: Some(cases), ..self }
    }

    /// Every hostile subject.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        [
            declared::SUBJECTS,
            answers::SUBJECTS,
            numbers::SUBJECTS,
            memory::SUBJECTS,
            models::SUBJECTS,
            steps::SUBJECTS,
            together::SUBJECTS,
            conduct::SUBJECTS,
        ]
        .into_iter()
        .flatten()
    }

    /// The hostile subject with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|hostile| hostile.id == id)
    }

    /// The subject, around an honest one of its model and arithmetic that has every capability.
    #[must_use]
    pub fn make(&self, honest: Box<dyn Subject>) -> Box<dyn Subject> {
        (self.change)(honest)
    }
}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hostile").field("id", &self.id).field("what", &self.what).finish_non_exhaustive()
    }
}

/// A subject with hooks that remember nothing.
fn hooked(honest: Box<dyn Subject>, hooks: Hooks<()>) -> Box<dyn Subject> {
    wrap(honest, (), hooks)
}

/// A trainer with one part replaced.
fn trainer(honest: Box<dyn Subject>, parts: TrainerParts) -> Box<dyn Subject> {
    Box::new(Faulty::new(honest, parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_every_subject_says_what_it_does() {
        let ids: BTreeSet<_> = Hostile::all().map(|hostile| hostile.id).collect();
        assert_eq!(ids.len(), Hostile::all().count());
        for hostile in Hostile::all() {
            assert!(!hostile.what.is_empty() && !hostile.what.ends_with('.'), "{hostile:?}");
        }
    }
}
