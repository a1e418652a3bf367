//! Bugs of a training loop: each is our own loop with one part replaced.
//!
//! What a step shows is in the other faults. These need samples that are met once, a window at an epoch's end, a
//! schedule with an end, a validation between updates, or a training that is stopped.

mod between;
mod between_ranks;
mod logs;
mod order;
mod passes;
mod ranks;
mod rates;
mod saved;
mod updates;

pub use ranks::RankFault;

use lossproof_diagnosis::Bug;
use lossproof_loop::{LoopParts, LoopSubject};
use lossproof_spec::LossSpec;
use lossproof_subject::{LoopTrainer, Subject, Unsupported};
use std::fmt;

/// A bug of a training loop, and a loop that has it.
#[derive(Clone, Copy)]
pub struct TrainingFault {
    /// The bug.
    pub bug: &'static Bug,
    parts: LoopParts,
}

const fn fault(id: &str, parts: LoopParts) -> TrainingFault {
    TrainingFault { bug: Bug::of_training_named(id), parts }
}

const LAWFUL: LoopParts = LoopParts::LAWFUL;

const FAULTS: [&[TrainingFault]; 6] =
    [order::FAULTS, passes::FAULTS, updates::FAULTS, rates::FAULTS, logs::FAULTS, saved::FAULTS];

impl TrainingFault {
    /// Every fault, from the order of samples to what is saved.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FAULTS.into_iter().flatten()
    }

    /// The fault of the bug with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|fault| fault.bug.id == id)
    }

    /// This trainer under a loop with the fault.
    ///
    /// # Errors
    /// When the trainer does not have the semantics that is claimed.
    pub fn inject(
        &self,
        trainer: Box<dyn LoopTrainer>,
        claim: LossSpec,
    ) -> Result<Box<dyn Subject>, Unsupported> {
        Ok(Box::new(LoopSubject::with_parts(trainer, claim, self.parts)?))
    }
}

impl fmt::Debug for TrainingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainingFault").field("bug", &self.bug).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_of_a_training_is_one_fault() {
        let faults: Vec<_> = TrainingFault::all().map(|fault| fault.bug.id).collect();
        let mut bugs: Vec<_> = Bug::of_training().map(|bug| bug.id).collect();
        for id in &faults {
            assert!(bugs.contains(id), "{id}");
        }
        bugs.retain(|id| !faults.contains(id));
        assert!(bugs.is_empty(), "{bugs:?}");
    }
}
