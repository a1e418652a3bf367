//! The ranks of a loop, one in each process.

use crate::{World, digest::Digest, numbers};
use lossproof_loop::{Gathered, Ranks, RunError};
use lossproof_subject::{LoopTrainer, gradient_of};
use std::ops::Range;

/// The ranks of a loop, one in each process of a world. A process beyond the ranks of a run makes no pass, and has
/// the same numbers.
#[derive(Clone)]
pub struct ProcessRanks {
    world: World,
}

impl ProcessRanks {
    /// Those of a world.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { world }
    }
}

impl Ranks for ProcessRanks {
    fn most(&self) -> Option<usize> {
        Some(self.world.size())
    }

    fn here(&self, ranks: usize) -> Range<usize> {
        let own = self.world.rank();
        own.min(ranks)..(own + 1).min(ranks)
    }

    fn gather(&mut self, what: Gathered, here: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>, RunError> {
        let own = here.into_iter().next().unwrap_or_default();
        let all = self.world.meet(&what.to_string(), numbers::bytes(&own))?;
        let all = all.iter().enumerate().map(|(rank, own)| numbers::numbers(rank, own));
        Ok(all.collect::<Result<_, _>>()?)
    }

    fn reduce(&mut self, trainer: &mut dyn LoopTrainer) -> Result<(), RunError> {
        let sum = self.world.sum(gradient_of(trainer)?)?;
        Ok(trainer.write_gradient(&sum)?)
    }

    fn updated(&mut self, trainer: &mut dyn LoopTrainer) -> Result<(), RunError> {
        let mut digest = Digest::default();
        trainer.read_parameters(&mut digest)?;
        Ok(digest.agree(&self.world)?)
    }
}
