//! The batches that a trainer is asked about: the designed one first, then random ones.

use lossproof_cases::{
    designed_batch,
    strategies::{Size, draw_cases},
};
use lossproof_spec::{GlobalBatch, LossSpec, TokenWeights};
use lossproof_subject::{Claims, Count, Limits};

/// Which batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// How many.
    pub count: usize,
    /// Ranks of each.
    pub ranks: usize,
    /// Micro-batches of each rank at most.
    pub micro_batches: usize,
    /// Token ids are below this.
    pub vocabulary: usize,
    /// Positions of a sequence are no more than this.
    pub positions: usize,
    /// Fixes tokens and layouts.
    pub seed: u64,
}

/// Sequences of a micro-batch, and positions of a sequence, at most: each prediction has a gradient of its own in the
/// export.
const MOST_SEQUENCES: usize = 3;
const MOST_POSITIONS: usize = 12;
/// Batches that are drawn for each that is wanted: some have no loss.
const DRAWN: usize = 8;

/// Batches without padding or packing, in which some labels are ignored and every sequence, micro-batch and rank has a
/// supervised token, so that every mean exists.
///
/// # Errors
/// The reason, where there are no such batches.
pub fn batches(asked: &Batches, claim: &LossSpec) -> Result<Vec<GlobalBatch>, String> {
    let limits = Limits {
        segments: false,
        free_labels: false,
        lengths: Count { least: 2, most: asked.positions },
        ranks: Count::exactly(asked.ranks),
        micro_batches: Count { least: 1, most: asked.micro_batches },
        ..Limits::of_model(asked.vocabulary, asked.positions)
    };
    let mut batches = Vec::new();
    let mut take = |batch: GlobalBatch| {
        let whole = batch.layout().sequences().all(|sequence| sequence.supervised > 0);
        if whole && batches.len() < asked.count && TokenWeights::new(claim, &batch.layout()).is_ok() {
            batches.push(batch);
        }
    };
    take(designed_batch(&limits, asked.seed));
    let size = Size {
        ranks: asked.ranks..=asked.ranks,
        micro_batches: 1..=asked.micro_batches,
        sequences: 1..=MOST_SEQUENCES,
        positions: 2..=asked.positions.min(MOST_POSITIONS),
    };
    let drawn = asked.count.saturating_mul(DRAWN);
    for case in draw_cases(&limits, &Claims::One(*claim), &size, asked.seed, drawn)? {
        take(case.batch);
    }
    if batches.len() < asked.count {
        let found = batches.len();
        return Err(format!("only {found} of {} batches have a loss everywhere: ask for fewer", asked.count));
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_within_what_is_asked_and_have_a_loss_everywhere() {
        let asked = Batches { count: 12, ranks: 2, micro_batches: 3, vocabulary: 64, positions: 16, seed: 7 };
        let all = batches(&asked, &LossSpec::sequence_mean()).unwrap();
        assert_eq!(all.len(), 12);
        for batch in &all {
            assert_eq!(batch.ranks().len(), 2);
            assert!(batch.ranks().iter().all(|rank| (1..=3).contains(&rank.micro_batches().len())));
            assert!(batch.layout().sequences().all(|sequence| sequence.supervised > 0));
        }
        assert!(all.iter().any(|batch| batch.predictions().any(|prediction| !prediction.supervised)));
        assert_eq!(all, batches(&asked, &LossSpec::sequence_mean()).unwrap());
        assert!(batches(&Batches { positions: 1, ..asked }, &LossSpec::token_mean()).is_err());
    }
}
