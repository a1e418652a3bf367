//! Which samples each rank meets in which micro-batch of an epoch.

use crate::{Settings, semantics::Shards};
use lossproof_subject::philox;

/// The samples of one micro-batch, for each rank those of its rows. A rank without any takes no part.
pub type GlobalMicroBatch = Vec<Vec<EpochSample>>;

/// A sample at its place in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochSample {
    /// Which sample of the corpus.
    pub index: usize,
    /// Its place in the order of the epoch, over all ranks and with what is filled up.
    pub place: u32,
}

/// Decides the order of the samples.
pub trait Sampler {
    /// The micro-batches of an epoch, from its beginning: the same whenever it is asked for.
    fn epoch(&self, epoch: u32) -> Vec<GlobalMicroBatch>;
}

/// A permutation of all samples for each epoch, fixed by a seed, and cut into micro-batches as declared.
#[derive(Clone, Copy, Debug)]
pub struct SeededSampler {
    samples: usize,
    seed: u64,
    cut: Cut,
}

/// How an order is cut into micro-batches.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Samples of a micro-batch on one rank.
    pub batch: usize,
    /// Number of ranks.
    pub ranks: usize,
    /// What happens at the end.
    pub shards: Shards,
}

/// The key of all permutations, beside the seed: "perm".
const ORDER_KEY: u32 = 0x7065_726d;

impl SeededSampler {
    /// The order of so many samples under these settings.
    #[must_use]
    pub fn new(samples: usize, settings: &Settings) -> Self {
        let cut = Cut { batch: settings.batch, ranks: settings.ranks, shards: settings.semantics.shards };
        Self { samples, seed: settings.seed, cut }
    }

    /// The permutation of an epoch: samples sorted by a random number of each.
    fn permutation(&self, epoch: u32) -> Vec<usize> {
        let [low, high] =
            [self.seed, self.seed >> 32].map(|half| u32::try_from(half & 0xFFFF_FFFF).unwrap_or(0));
        let random = |&sample: &usize| {
            let index = u32::try_from(sample).unwrap_or(u32::MAX);
            (philox([index, epoch, high, 0], [low, ORDER_KEY]), sample)
        };
        let mut order: Vec<usize> = (0..self.samples).collect();
        order.sort_by_cached_key(random);
        order
    }
}

impl Sampler for SeededSampler {
    fn epoch(&self, epoch: u32) -> Vec<GlobalMicroBatch> {
        self.cut.micro_batches(&self.permutation(epoch))
    }
}

/// Another sampler's order, each rank's rows the other way round: the same numbers but for rounding, since
/// sums over rows are taken in another order.
#[derive(Clone, Copy, Debug)]
pub struct RowsReversed<S>(pub S);

impl<S: Sampler> Sampler for RowsReversed<S> {
    fn epoch(&self, epoch: u32) -> Vec<GlobalMicroBatch> {
        let mut micro_batches = self.0.epoch(epoch);
        for rank in micro_batches.iter_mut().flatten() {
            rank.reverse();
        }
        micro_batches
    }
}

impl Cut {
    /// Cuts an order of samples into micro-batches: batch after batch, rank after rank.
    ///
    /// Filled up as accelerate's `BatchSamplerShard` with `even_batches` does for more than one rank: the last
    /// batch, and the ranks that would have none, take samples from the epoch's start. With one rank nothing is
    /// filled up.
    #[must_use]
    pub fn micro_batches(&self, order: &[usize]) -> Vec<GlobalMicroBatch> {
        let per_step = self.batch * self.ranks;
        let mut order = order.to_vec();
        let short = order.len() % per_step;
        if self.shards == Shards::FilledUp && self.ranks > 1 && short > 0 {
            // What it circles back to: the first batch of every rank, repeated where there is too little.
            let start: Vec<usize> = order.iter().copied().take(per_step).collect();
            order.extend(start.into_iter().cycle().take(per_step - short));
        }
        let placed: Vec<EpochSample> =
            (0..).zip(&order).map(|(place, &index)| EpochSample { index, place }).collect();
        let mut micro_batches = Vec::new();
        for step in placed.chunks(per_step) {
            let mut ranks: GlobalMicroBatch = step.chunks(self.batch).map(<[_]>::to_vec).collect();
            ranks.resize(self.ranks, Vec::new());
            micro_batches.push(ranks);
        }
        micro_batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(micro_batches: &[GlobalMicroBatch]) -> Vec<Vec<Vec<usize>>> {
        let of_rank = |rank: &Vec<EpochSample>| rank.iter().map(|sample| sample.index).collect();
        micro_batches.iter().map(|ranks| ranks.iter().map(of_rank).collect()).collect()
    }

    fn cut(batch: usize, ranks: usize, shards: Shards, samples: usize) -> Vec<Vec<Vec<usize>>> {
        indices(&Cut { batch, ranks, shards }.micro_batches(&(0..samples).collect::<Vec<_>>()))
    }

    #[test]
    fn every_sample_comes_once_and_ranks_may_run_out() {
        let cut = cut(2, 2, Shards::EverySampleOnce, 5);
        assert_eq!(cut, [[vec![0, 1], vec![2, 3]], [vec![4], vec![]]]);
    }

    /// The shards that accelerate 1.15.0 makes of 17 samples in batches of 8 for two ranks, of 10 in batches of
    /// 4, and of 3 in batches of 4: the last batch is filled from the epoch's start.
    #[test]
    fn ranks_are_filled_up_from_the_start() {
        let filled = |batch, samples| cut(batch, 2, Shards::FilledUp, samples);
        let last = filled(8, 17).pop().unwrap();
        assert_eq!(last, [vec![16, 0, 1, 2, 3, 4, 5, 6], vec![7, 8, 9, 10, 11, 12, 13, 14]]);
        assert_eq!(filled(4, 10).pop().unwrap(), [vec![8, 9, 0, 1], vec![2, 3, 4, 5]]);
        assert_eq!(filled(4, 3), [[vec![0, 1, 2, 0], vec![1, 2, 0, 1]]]);
        assert_eq!(cut(4, 1, Shards::FilledUp, 6), [[vec![0, 1, 2, 3]], [vec![4, 5]]]);
    }

    #[test]
    fn an_epoch_is_a_permutation_of_its_own() {
        let cut = Cut { batch: 4, ranks: 1, shards: Shards::EverySampleOnce };
        let sampler = SeededSampler { samples: 50, seed: 3, cut };
        let [first, again, second] = [0, 0, 1].map(|epoch| sampler.permutation(epoch));
        assert_eq!(first, again);
        assert_ne!(first, second);
        assert_ne!(first, SeededSampler { seed: 3 << 32, ..sampler }.permutation(0));
        let mut sorted = second;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }
}
