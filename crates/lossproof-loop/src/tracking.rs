//! The loss that is logged for an epoch.

use crate::semantics::Tracking;
use serde::{Deserialize, Serialize};

/// What was added up of an epoch so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracked {
    /// Losses, as declared.
    #[serde(with = "lossproof_trace::number::any")]
    pub loss: f64,
    /// What they are divided by, unless that is the length of the epoch.
    pub count: u64,
}

/// The loss of one rank's micro-batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RankLoss {
    /// Sum of the token losses, and their number.
    pub(crate) sum: f64,
    pub(crate) tokens: u64,
    /// The mean that a script takes of the micro-batch, and its samples.
    pub(crate) mean: f64,
    pub(crate) samples: u64,
}

impl Tracked {
    /// Adds a micro-batch, given for each rank.
    pub(crate) fn add(&mut self, tracking: Tracking, ranks: &[RankLoss]) {
        match tracking {
            Tracking::Tokens => {
                for rank in ranks {
                    self.loss += rank.sum;
                    self.count += rank.tokens;
                }
            }
            Tracking::SamplesOfFirstRank => {
                if let Some(first) = ranks.first() {
                    self.loss = single(self.loss, single_product(first.mean, first.samples));
                    self.count += first.samples;
                }
            }
            Tracking::MeansOverWholeEpoch => {
                if let Some(first) = ranks.first() {
                    self.loss = single(self.loss, first.mean);
                    self.count += 1;
                }
            }
        }
    }

    /// The loss of the epoch, which has so many micro-batches when it is whole. NaN where there is nothing.
    pub(crate) fn loss(&self, tracking: Tracking, micro_batches: u64) -> f64 {
        let by = match tracking {
            Tracking::Tokens | Tracking::SamplesOfFirstRank => self.count,
            Tracking::MeansOverWholeEpoch => micro_batches,
        };
        self.loss / by as f64
    }
}

/// A sum in single precision: the script tracks `loss.detach().float()`.
#[expect(clippy::cast_possible_truncation, reason = "single precision is what is reproduced")]
fn single(sum: f64, term: f64) -> f64 {
    f64::from(sum as f32 + term as f32)
}

#[expect(clippy::cast_possible_truncation, reason = "single precision is what is reproduced")]
fn single_product(mean: f64, samples: u64) -> f64 {
    f64::from(mean as f32 * samples as f32)
}
