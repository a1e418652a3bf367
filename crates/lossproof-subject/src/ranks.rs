//! The part of one rank in a step whose other ranks are elsewhere, and the capability to compute it.
//!
//! Before a rank divides by anything, all ranks have counted: [`Totals`] are what they have together. Each then
//! computes its share by itself, and the shares are [combined](Totals::combined) in rank order. A trainer that
//! computes all ranks in one process does the same in turn, so that the numbers are the same.

use crate::{GradientSink, Observation, StepReport, SubjectError, TensorSet};
use lossproof_spec::{Combine, EmptyPolicy, GlobalBatch, LossSpec, MicroBatch, Rank};
use serde::{Deserialize, Serialize};

/// What all ranks of a step have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Ranks.
    pub ranks: usize,
    /// Ranks with a supervised token.
    pub ranks_with_tokens: usize,
    /// Supervised tokens.
    pub tokens: usize,
    /// Sequences.
    pub sequences: usize,
    /// Sequences with a supervised token.
    pub sequences_with_tokens: usize,
}

impl Totals {
    /// Those of a whole batch.
    #[must_use]
    pub fn of(batch: &GlobalBatch) -> Self {
        batch.ranks().iter().map(Self::of_rank).sum()
    }

    /// What one rank has.
    #[must_use]
    pub fn of_rank(rank: &Rank) -> Self {
        let own = Self::of_micro_batches(rank.micro_batches());
        Self { ranks: 1, ranks_with_tokens: usize::from(own.tokens > 0), ..own }
    }

    /// What some micro-batches have, which are no ranks.
    #[must_use]
    pub fn of_micro_batches<'a>(micro_batches: impl IntoIterator<Item = &'a MicroBatch>) -> Self {
        let mut totals = Self::default();
        for sequence in micro_batches.into_iter().flat_map(MicroBatch::sequences) {
            let tokens = sequence.supervised();
            totals.tokens += tokens;
            totals.sequences += 1;
            totals.sequences_with_tokens += usize::from(tokens > 0);
        }
        totals
    }

    /// The sequences that a mean over sequences is taken of: the empty ones too, unless they are skipped.
    #[must_use]
    pub fn counted_sequences(&self, policy: EmptyPolicy) -> usize {
        if policy == EmptyPolicy::ZeroSkipped { self.sequences_with_tokens } else { self.sequences }
    }

    /// How many ranks the sum over all of them is divided by: 1 where they are added.
    #[must_use]
    pub fn averaged_over(&self, spec: &LossSpec) -> usize {
        match (spec.ranks, spec.empty) {
            (Combine::Add, _) => 1,
            // Where all are empty every contribution is zero, whatever it is divided by.
            (Combine::Average, EmptyPolicy::ZeroSkipped) => self.ranks_with_tokens.max(1),
            (Combine::Average, _) => self.ranks.max(1),
        }
    }

    /// What was seen in a step, from what each rank has seen, in rank order.
    #[must_use]
    pub fn combined(&self, spec: &LossSpec, shares: impl IntoIterator<Item = Observation>) -> Observation {
        let mut loss = 0.0;
        let mut token_losses = Vec::with_capacity(self.tokens);
        for share in shares {
            loss += share.loss;
            token_losses.extend(share.token_losses.into_iter().flatten());
        }
        Observation {
            loss: loss / self.averaged_over(spec) as f64,
            supervised_tokens: Some(token_losses.len()),
            token_losses: Some(token_losses),
        }
    }
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(ranks: I) -> Self {
        ranks.fold(Self::default(), |all, one| Self {
            ranks: all.ranks.saturating_add(one.ranks),
            ranks_with_tokens: all.ranks_with_tokens.saturating_add(one.ranks_with_tokens),
            tokens: all.tokens.saturating_add(one.tokens),
            sequences: all.sequences.saturating_add(one.sequences),
            sequences_with_tokens: all.sequences_with_tokens.saturating_add(one.sequences_with_tokens),
        })
    }
}

/// Where a rank stands in the batch of a step: so many of each come before it. What is refused is named by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RankPlace {
    /// Ranks.
    pub rank: usize,
    /// Micro-batches.
    pub micro_batches: usize,
    /// Sequences.
    pub sequences: usize,
}

impl RankPlace {
    /// The place of a rank of a batch.
    #[must_use]
    pub fn of(batch: &GlobalBatch, rank: usize) -> Self {
        batch.ranks().iter().take(rank).fold(Self::default(), Self::after)
    }

    /// The place behind a rank that stands here.
    #[must_use]
    pub fn after(self, rank: &Rank) -> Self {
        let sequences: usize = rank.micro_batches().iter().map(|own| own.sequences().len()).sum();
        Self {
            rank: self.rank + 1,
            micro_batches: self.micro_batches + rank.micro_batches().len(),
            sequences: self.sequences + sequences,
        }
    }
}

/// The capability to compute what one rank contributes to a step, where the other ranks are in other processes, and to
/// take the step from what all have contributed.
pub trait RankShares {
    /// Forward and backward over the micro-batches of one rank, under the loss spec in force, in a step whose ranks
    /// have these totals together. The loss is multiplied by `loss_scale` before each backward pass, which the gradient
    /// keeps and the loss that is observed does not.
    ///
    /// The gradient that goes to `gradients` is what the rank brings to the all-reduce: the shares of all ranks
    /// are added, and their sum is divided by [`Totals::averaged_over`]. So is the loss that is observed; the
    /// token losses are those of this rank.
    ///
    /// # Errors
    /// As [`Subject::accumulate`](crate::Subject::accumulate) of the whole batch, in what concerns this rank.
    fn share(
        &mut self,
        rank: &Rank,
        place: RankPlace,
        totals: &Totals,
        loss_scale: f64,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError>;

    /// One step of the [optimizer that was started](crate::OptimizerSteps::start) from the gradient of all ranks: added
    /// up, divided as the loss spec says, and still multiplied by the optimizer's loss scale. What was observed of the
    /// batch comes back in the report.
    ///
    /// # Errors
    /// When no optimizer was started, a tensor of the gradient is not one of this trainer's, or the trainer fails.
    /// Then no parameter has changed.
    fn step_from(
        &mut self,
        gradient: &TensorSet,
        observation: Observation,
    ) -> Result<StepReport, SubjectError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::{IGNORE_INDEX, Sequence};

    fn rank(supervised: &[bool]) -> Rank {
        let sequences = supervised.iter().map(|&supervised| {
            let label = if supervised { 1 } else { IGNORE_INDEX };
            Sequence::new(vec![0, 1], vec![label, label]).unwrap()
        });
        Rank::new(vec![MicroBatch::new(sequences.collect()).unwrap()]).unwrap()
    }

    #[test]
    fn totals_are_those_of_all_ranks() {
        let batch = GlobalBatch::new(vec![rank(&[true, false]), rank(&[false])]).unwrap();
        let totals = Totals::of(&batch);
        let expected =
            Totals { ranks: 2, ranks_with_tokens: 1, tokens: 1, sequences: 3, sequences_with_tokens: 1 };
        assert_eq!(totals, expected);
        assert_eq!(totals.counted_sequences(EmptyPolicy::ZeroSkipped), 1);
        assert_eq!(totals.counted_sequences(EmptyPolicy::ZeroCounted), 3);
        let average = LossSpec { ranks: Combine::Average, ..LossSpec::token_mean() };
        let counted = LossSpec { empty: EmptyPolicy::ZeroCounted, ..average };
        assert_eq!(totals.averaged_over(&counted), 2);
        assert_eq!(totals.averaged_over(&LossSpec { empty: EmptyPolicy::ZeroSkipped, ..average }), 1);
        assert_eq!(totals.averaged_over(&LossSpec { ranks: Combine::Add, ..counted }), 1);
    }

    #[test]
    fn a_rank_stands_behind_those_before_it() {
        let batch = GlobalBatch::new(vec![rank(&[true, false]), rank(&[false])]).unwrap();
        assert_eq!(RankPlace::of(&batch, 0), RankPlace::default());
        assert_eq!(RankPlace::of(&batch, 1), RankPlace { rank: 1, micro_batches: 1, sequences: 2 });
    }
}
