//! The ranks of a loop, one in each process.

use crate::{World, numbers};
use lossproof_loop::{Gathered, Ranks, RunError};
use lossproof_subject::{GradientSink, GradientView, LoopTrainer, SinkError, gradient_of};
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
        let (place, what) = ("the parameters after an update", "other parameters after an update");
        Ok(self.world.agree(place, what, digest.0.to_le_bytes().to_vec())?)
    }
}

/// A number that other bits of the parameters would make another: FNV-1a over their words.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// A NaN is one like any other: which bits it has depends on which of two was added to the other.
    fn add_value(&mut self, value: f64) {
        let word = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

impl GradientSink for Digest {
    fn receive(&mut self, _: &str, _: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        match values {
            GradientView::F32(values) => values.iter().for_each(|&value| self.add_value(value.into())),
            GradientView::F64(values) => values.iter().for_each(|&value| self.add_value(value)),
        }
        Ok(())
    }
}
