//! Where the ranks of a run are: all in this process, or each in one of its own.
//!
//! A process makes the passes of the ranks that are [here](Ranks::here). What the loop has to know of all ranks is
//! [gathered](Ranks::gather) in rank order, and the gradient is [reduced](Ranks::reduce) before anything is made of
//! it. Every process then has the same numbers, and goes on by itself.

use crate::RunError;
use lossproof_subject::{LoopTrainer, Tensor, TensorSet, TensorValues, gradient_of};
use std::{fmt, ops::Range};

/// What is gathered of all ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathered {
    /// The supervised tokens of a window, before anything is divided by them.
    Tokens,
    /// The losses of a window.
    Losses,
    /// The losses of a validation.
    Validation,
}

impl fmt::Display for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens => "the token counts of a window",
            Self::Losses => "the losses of a window",
            Self::Validation => "the losses of a validation",
        })
    }
}

/// Where the ranks of a run are.
pub trait Ranks {
    /// How many ranks there can be, where that is limited.
    fn most(&self) -> Option<usize> {
        None
    }

    /// The ranks, of so many, whose passes are made in this process.
    fn here(&self, ranks: usize) -> Range<usize>;

    /// Whether the ranks here make their passes one rank after the other, each with a gradient of its own. Otherwise
    /// they are more micro-batches to the trainer, and take turns.
    fn in_turn(&self) -> bool {
        false
    }

    /// Called after the last pass of a window of each rank that is here, where they are [in turn](Self::in_turn).
    ///
    /// # Errors
    /// When the trainer fails.
    fn passed(&mut self, trainer: &mut dyn LoopTrainer) -> Result<(), RunError> {
        let _ = trainer;
        Ok(())
    }

    /// The numbers of every rank, in rank order, from those of the ranks that are here. Every process calls it for
    /// the same at the same time.
    ///
    /// # Errors
    /// [`RunError::Rank`] when a rank has failed or does not come.
    fn gather(&mut self, what: Gathered, here: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>, RunError>;

    /// Makes the trainer's gradient the sum of those of all ranks.
    ///
    /// # Errors
    /// [`RunError::Rank`] when a rank has failed or does not come, [`RunError::Trainer`] when the trainer fails.
    fn reduce(&mut self, trainer: &mut dyn LoopTrainer) -> Result<(), RunError>;

    /// Called after every update that was made.
    ///
    /// # Errors
    /// [`RunError::Rank`] when a rank has other parameters than the first.
    fn updated(&mut self, trainer: &mut dyn LoopTrainer) -> Result<(), RunError> {
        let _ = trainer;
        Ok(())
    }
}

/// All ranks in this process: to the trainer they are more micro-batches of one gradient.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneProcess;

impl Ranks for OneProcess {
    fn here(&self, ranks: usize) -> Range<usize> {
        0..ranks
    }

    fn gather(&mut self, _: Gathered, here: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>, RunError> {
        Ok(here)
    }

    fn reduce(&mut self, _: &mut dyn LoopTrainer) -> Result<(), RunError> {
        Ok(())
    }
}

/// All ranks in this process, each with a gradient of its own; they are added in rank order. That is what ranks in
/// processes of their own do, to the last bit, where their gradients are added in rank order.
#[derive(Clone, Debug, Default)]
pub struct RanksInTurn {
    /// The gradients so far, added up.
    sum: TensorSet,
}

impl Ranks for RanksInTurn {
    fn here(&self, ranks: usize) -> Range<usize> {
        0..ranks
    }

    fn in_turn(&self) -> bool {
        true
    }

    fn passed(&mut self, trainer: &mut dyn LoopTrainer) -> Result<(), RunError> {
        let own = gradient_of(trainer)?;
        trainer.zero_gradient()?;
        self.sum = added(std::mem::take(&mut self.sum), own);
        Ok(())
    }

    fn gather(&mut self, _: Gathered, here: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>, RunError> {
        Ok(here)
    }

    fn reduce(&mut self, trainer: &mut dyn LoopTrainer) -> Result<(), RunError> {
        Ok(trainer.write_gradient(&std::mem::take(&mut self.sum))?)
    }
}

/// The sum of two gradients of one model, each tensor in its element type; the first one's where the other has none.
#[must_use]
pub fn added(sum: TensorSet, other: TensorSet) -> TensorSet {
    if sum.is_empty() {
        return other;
    }
    let add = |(name, tensor): (String, Tensor)| {
        let values = match (tensor.values(), other.get(&name).map(Tensor::values)) {
            (TensorValues::F32(mine), Some(TensorValues::F32(theirs))) => {
                TensorValues::F32(mine.iter().zip(theirs).map(|(mine, theirs)| mine + theirs).collect())
            }
            (TensorValues::F64(mine), Some(TensorValues::F64(theirs))) => {
                TensorValues::F64(mine.iter().zip(theirs).map(|(mine, theirs)| mine + theirs).collect())
            }
            (mine, _) => mine.clone(),
        };
        let sum = Tensor::new(tensor.shape().to_vec(), values).unwrap_or(tensor);
        (name, sum)
    };
    sum.into_iter().map(add).collect()
}
