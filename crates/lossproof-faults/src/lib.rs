//! Deliberate breaks: bugs that real trainers had, each re-created in one part of an otherwise honest
//! trainer.
//!
//! ```no_run
//! # fn honest() -> Box<dyn lossproof_subject::Subject> { unimplemented!() }
//! let fault = lossproof_faults::Fault::named("clip-compares-squared-norm").expect("it is in the catalogue");
//! let mut subject = fault.inject(honest());
//! assert!(subject.optimizer_steps().is_some());
//! ```
//!
//! # How to add a fault
//!
//! A trainer is a row of parts, functions that its data, its loss and its step go through: `TrainerParts`
//! lists them in order. `TrainerParts::HONEST` has nothing wrong, and a fault is `HONEST` with one part
//! replaced. So:
//!
//! 1. Add the bug to the catalogue ([`lossproof_diagnosis::catalogue`]): an id in the words of the bug, its
//!    family, what is wrong in one phrase, where it was seen, the clauses of `docs/SPEC.md` that it violates,
//!    and its remedy.
//! 2. Find the part that is wrong in the bug, and with it the module: `data`, `loss`, `accumulation`,
//!    `backward`, `operators`, `step`, `evaluation`. Add the id and the part to that module's `FAULTS`:
//!    `fault("overflow-not-skipped", TrainerParts { skips: |_, _, _| false, ..HONEST })`.
//! 3. What a part may ask of the honest trainer stands in `Honest`: a pass under another loss spec, the
//!    gradient of any weighted sum of token losses, what each micro-batch contributes, and a memory that
//!    lasts until the next reset. What is wrong in the middle of forward or backward replaces one of
//!    `Operators`, those of a small GPT-2 in `model`.
//! 4. Add a hypothesis to `lossproof-diagnosis`, by which a diagnosis recognises the bug. It models what a
//!    trainer with the bug computes and shares no code with the part that makes the mistake.
//! 5. Run `cargo test -p lossproof-tests --test faults`. It fails until some law of a declared clause turns
//!    red under the fault, and it shows which laws do.
//!
//! A bug by which a diagnosis is to be measured, and that it must not be told of, is an [`Unseen`] instead:
//! the same parts, without an entry of the catalogue and without a hypothesis.

mod accumulation;
mod backward;
mod claim;
mod class;
mod classes;
mod controls;
mod data;
mod evaluation;
mod faulty;
mod honest;
pub mod hostile;
mod keyhole;
pub mod kit;
mod lawful;
mod loss;
mod model;
mod naive_loops;
mod names;
mod objectives;
mod operators;
mod profile;
mod rules;
mod step;
mod steps;
mod tangent;
mod tensors;
mod trainer;
mod training;
mod unseen;
mod witnesses;

pub use claim::NamedClaim;
pub use class::{Class, Classified};
pub use classes::{ByColumn, Classes, ClassesError, Column};
pub use controls::Control;
pub use keyhole::{Keyhole, KeyholeError};
pub use naive_loops::NaiveLoops;
pub use objectives::ObjectiveFault;
pub use profile::Profile;
pub use training::{RankFault, TrainingFault};
pub use unseen::Unseen;

use faulty::Faulty;
use lossproof_diagnosis::Bug;
use lossproof_subject::Subject;
use std::fmt;
use trainer::TrainerParts;

/// A bug of the catalogue, and a trainer that has it.
#[derive(Clone, Copy)]
pub struct Fault {
    /// The bug.
    pub bug: &'static Bug,
    trainer: TrainerParts,
}

/// The fault that makes a trainer have the bug with this id. In a constant, an id that the catalogue does not
/// have does not compile.
const fn fault(id: &str, trainer: TrainerParts) -> Fault {
    Fault { bug: Bug::recreated(id), trainer }
}

/// The faults, by where in a trainer the mistake sits.
const FAULTS: [&[Fault]; 7] = [
    data::FAULTS,
    loss::FAULTS,
    accumulation::FAULTS,
    backward::FAULTS,
    operators::FAULTS,
    step::FAULTS,
    evaluation::FAULTS,
];

impl Fault {
    /// Every fault, from the data path to the optimizer step.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FAULTS.into_iter().flatten()
    }

    /// The fault of the bug with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|fault| fault.bug.id == id)
    }

    /// An honest subject with this fault.
    ///
    /// It has the capabilities of the honest one. Some faults need of it that it weights token losses
    /// ([`Subject::upstream_weights`]) or loads and reads parameters; where it cannot, computing fails with
    /// an error that says so. Those in an operator compute forward and backward themselves, in the
    /// honest subject's precision (single, where that is not double) and from its parameters, which must be
    /// those of one of [`lossproof_gpt2::Config`]'s. Gradients are held in f64 on the way: this is for small
    /// models.
    #[must_use]
    pub fn inject(&self, honest: Box<dyn Subject>) -> Box<dyn Subject> {
        Box::new(Faulty::new(honest, self.trainer))
    }
}

/// The trainer that faults are injected into, with none: every law must hold for it as for the honest subject
/// itself.
#[must_use]
pub fn without_fault(honest: Box<dyn Subject>) -> Box<dyn Subject> {
    Box::new(Faulty::new(honest, TrainerParts::HONEST))
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("bug", &self.bug).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_bug_that_is_not_omitted_is_one_fault() {
        let faults: BTreeSet<_> = Fault::all().map(|fault| fault.bug.id).collect();
        assert_eq!(faults.len(), Fault::all().count());
        let recreated = Bug::all().filter(|bug| bug.omitted.is_none()).map(|bug| bug.id);
        assert_eq!(recreated.collect::<BTreeSet<_>>(), faults);
    }
}
