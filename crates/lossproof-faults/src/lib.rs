//! Deliberate breaks: bugs that real trainers had, each re-created in one part of an otherwise honest trainer.
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
//! A trainer is a row of parts, functions that its data, its loss and its step go through: `Trainer` lists them in order.
//! `Trainer::HONEST` has nothing wrong, and a fault is `HONEST` with one part replaced. So:
//!
//! 1. Find the part that is wrong in the bug, and with it the module: `data`, `loss`, `accumulation`, `backward`,
//!    `operators`, `step`, `evaluation`.
//! 2. Add a [`Fault`] to that module's `FAULTS`: an id in the words of the bug, its family, what is wrong in one sentence,
//!    where it was seen, the clauses of `docs/SPEC.md` that it violates, and the part:
//!    `trainer: Trainer { skips: |_, _, _| false, ..Trainer::HONEST }`.
//! 3. What a part may ask of the honest trainer stands in `Honest`: a pass under another loss spec, the gradient of any
//!    weighted sum of token losses, what each micro-batch contributes, and a memory that lasts until the next reset. What
//!    is wrong in the middle of forward or backward replaces one of `Operators`, those of a small GPT-2 in `model`.
//! 4. Run `cargo test -p lossproof-tests --test faults`. It fails until some law of a declared clause turns red under the
//!    fault, and it shows which laws do.

mod accumulation;
mod backward;
mod controls;
mod data;
mod evaluation;
mod faulty;
mod honest;
mod loss;
mod model;
mod names;
mod omitted;
mod operators;
mod rules;
mod step;
mod steps;
mod tensors;
mod trainer;

pub use controls::Control;
pub use omitted::{OMITTED, Omitted};

use faulty::Faulty;
use lossproof_subject::Subject;
use std::fmt;
use trainer::Trainer;

/// One thing that is wrong with a trainer.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Names it.
    pub id: &'static str,
    /// What kind of bug it is.
    pub family: Family,
    /// What is wrong.
    pub what: &'static str,
    /// Where it was seen; `None` for mistakes that are easily made and of which no shipped instance is known.
    pub source: Option<&'static str>,
    /// The clauses of `docs/SPEC.md` it violates.
    pub clauses: &'static [&'static str],
    trainer: Trainer,
}

/// What kind of bug a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Which weight a token loss has, and how micro-batches and ranks are put together.
    Accumulation,
    /// Which label a prediction is scored against.
    Alignment,
    /// What is ignored, and what is added to the cross-entropy.
    Masking,
    /// The token loss and its gradient.
    CrossEntropy,
    /// What is reported.
    Logging,
    /// The backward pass.
    Backward,
    /// What a position sees.
    Attention,
    /// Clipping, schedule and update.
    Optimizer,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accumulation => "reduction and gradient accumulation",
            Self::Alignment => "label shift and alignment",
            Self::Masking => "masking, padding and composed losses",
            Self::CrossEntropy => "cross-entropy kernels and numerics",
            Self::Logging => "evaluation and logging",
            Self::Backward => "backward operators and graph",
            Self::Attention => "attention, positions and packing",
            Self::Optimizer => "clipping, optimizer and schedule",
        })
    }
}

/// The catalogue, by where in a trainer the mistake sits.
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
    /// Every fault of the catalogue, from the data path to the optimizer step.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FAULTS.into_iter().flatten()
    }

    /// The fault with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|fault| fault.id == id)
    }

    /// An honest subject with this fault.
    ///
    /// It has the capabilities of the honest one. Some faults need of it that it weights token losses
    /// ([`Subject::upstream_weights`]) or loads and reads parameters; where it cannot, computing fails with an error that
    /// says so. Those in an operator compute forward and backward themselves, in f64 from the honest subject's parameters,
    /// which must be those of one of [`lossproof_gpt2::Config`]'s. Gradients are held in f64 on the way: this is for small
    /// models.
    #[must_use]
    pub fn inject(&self, honest: Box<dyn Subject>) -> Box<dyn Subject> {
        Box::new(Faulty::new(honest, self.trainer))
    }
}

/// The trainer that faults are injected into, with none: every law must hold for it as for the honest subject itself.
#[must_use]
pub fn without_fault(honest: Box<dyn Subject>) -> Box<dyn Subject> {
    Box::new(Faulty::new(honest, Trainer::HONEST))
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("id", &self.id).field("what", &self.what).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::CLAUSES;
    use serde::Deserialize;
    use std::collections::{BTreeMap, BTreeSet};

    /// A bug that was seen, as fixtures/bugs.json lists them.
    #[derive(Deserialize)]
    struct Seen {
        id: String,
        family: String,
        source: String,
    }

    fn seen() -> Vec<Seen> {
        serde_json::from_str(include_str!("../../../fixtures/bugs.json")).expect("the list of bugs")
    }

    #[test]
    fn every_bug_that_was_seen_is_a_fault_or_omitted_with_a_reason() {
        let seen = seen();
        let listed: BTreeSet<_> = seen.iter().map(|bug| bug.id.as_str()).collect();
        assert_eq!(listed.len(), seen.len(), "a bug is listed twice");
        let omitted: BTreeSet<_> = OMITTED.iter().map(|omitted| omitted.id).collect();
        let faults: BTreeSet<_> = Fault::all().map(|fault| fault.id).collect();
        assert!(faults.is_disjoint(&omitted));
        let accounted = faults.iter().filter(|id| listed.contains(*id)).chain(&omitted);
        assert_eq!(accounted.copied().collect::<BTreeSet<_>>(), listed);
        assert!(OMITTED.iter().all(|omitted| !omitted.why.is_empty()));
    }

    #[test]
    fn a_fault_cites_what_its_bug_was_seen_in() {
        let seen: BTreeMap<_, _> = seen().into_iter().map(|bug| (bug.id.clone(), bug)).collect();
        for fault in Fault::all() {
            let Some(bug) = seen.get(fault.id) else { continue };
            let cited = match fault.source {
                None => bug.source.starts_with("no shipped instance"),
                Some(source) => {
                    let mut threads = source.split([',', ';', ' ']).filter(|word| word.contains(['#', '@']));
                    threads.all(|thread| bug.source.contains(thread))
                }
            };
            assert!(cited, "{}: {:?} is not in: {}", fault.id, fault.source, bug.source);
            assert!(!bug.family.is_empty());
        }
    }

    #[test]
    fn ids_are_unique_and_clauses_exist() {
        let ids: BTreeSet<_> = Fault::all().map(|fault| fault.id).collect();
        assert_eq!(ids.len(), Fault::all().count());
        for fault in Fault::all() {
            assert!(!fault.clauses.is_empty(), "{}: which clause?", fault.id);
            for id in fault.clauses {
                let clause = CLAUSES.iter().find(|clause| clause.id == *id);
                assert!(clause.is_some_and(|clause| clause.law.is_some()), "{}: {id}", fault.id);
            }
        }
    }

    #[test]
    fn every_group_of_clauses_has_a_fault() {
        let group = |clause: &&'static str| clause.split('.').next();
        let groups: BTreeSet<_> = Fault::all().flat_map(|f| f.clauses).filter_map(group).collect();
        assert_eq!(groups, BTreeSet::from(["1", "2", "3", "4", "5", "6", "7", "8"]));
    }
}
