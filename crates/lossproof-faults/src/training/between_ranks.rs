//! What stands between a loop and its ranks: the ranks, and hooks on how they meet.

use lossproof_loop::{Gathered, Ranks, RunError};
use lossproof_subject::LoopTrainer;
use std::ops::Range;

type Answer<T> = Result<T, RunError>;

/// Numbers of each rank.
type OfRanks = Vec<Vec<f64>>;

/// The hooks, each of which stands for the whole call.
#[derive(Clone, Copy)]
pub(super) struct RanksHooks {
    pub(super) gather: fn(&mut BetweenRanks, Gathered, OfRanks) -> Answer<OfRanks>,
    pub(super) reduce: fn(&mut BetweenRanks, &mut dyn LoopTrainer) -> Answer<()>,
    pub(super) updated: fn(&mut BetweenRanks, &mut dyn LoopTrainer) -> Answer<()>,
}

impl RanksHooks {
    /// Nothing is changed.
    pub(super) const IDENTITY: Self = Self {
        gather: |own, what, here| own.inner.gather(what, here),
        reduce: |own, trainer| own.inner.reduce(trainer),
        updated: |own, trainer| own.inner.updated(trainer),
    };
}

/// Ranks with hooks, in the process of one of them.
pub(super) struct BetweenRanks {
    pub(super) inner: Box<dyn Ranks>,
    pub(super) rank: usize,
    pub(super) hooks: RanksHooks,
    /// Whether this rank has nothing in the window that goes on.
    pub(super) idle: bool,
}

impl Ranks for BetweenRanks {
    fn most(&self) -> Option<usize> {
        self.inner.most()
    }

    fn here(&self, ranks: usize) -> Range<usize> {
        self.inner.here(ranks)
    }

    fn gather(&mut self, what: Gathered, here: OfRanks) -> Answer<OfRanks> {
        (self.hooks.gather)(self, what, here)
    }

    fn reduce(&mut self, trainer: &mut dyn LoopTrainer) -> Answer<()> {
        (self.hooks.reduce)(self, trainer)
    }

    fn updated(&mut self, trainer: &mut dyn LoopTrainer) -> Answer<()> {
        (self.hooks.updated)(self, trainer)
    }
}
