//! What happens in a run, and the numbers of it.

use crate::evaluation::Validation;
use serde::{Deserialize, Serialize};

/// What happened next in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A window of micro-batches, and the update at its end.
    Update(Update),
    /// A validation between two updates.
    Validation {
        /// Updates so far.
        updates: u64,
        /// What it reports.
        validation: Validation,
    },
    /// The end of an epoch.
    Epoch(Epoch),
}

/// A window of micro-batches, and the update at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// Number of the update, from 1; a skipped one has the number of the next.
    pub update: u64,
    /// The epoch, from 0.
    pub epoch: u32,
    /// Loss of the window, as it is differentiated.
    #[serde(with = "lossproof_trace::number::any")]
    pub loss: f64,
    /// Supervised tokens of the window, over all ranks.
    pub tokens: u64,
    /// Samples of the window, over all ranks.
    pub samples: u64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping, over all parameters and ranks.
    #[serde(with = "lossproof_trace::number::any")]
    pub grad_norm: f64,
    /// Norm of each parameter's gradient before clipping.
    #[serde(with = "lossproof_trace::number::list")]
    pub tensor_norms: Vec<f64>,
    /// What the gradient was multiplied with.
    pub clip_factor: f64,
    /// Whether nothing was updated: the gradient was not finite, or there was no supervised token, and such an
    /// update is skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// The micro-batches.
    pub micro_batches: Vec<MicroBatchRecord>,
}

/// One micro-batch of all ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MicroBatchRecord {
    /// Its number in the epoch, from 0.
    pub micro_batch: usize,
    /// Of each rank, the samples of the corpus.
    pub samples: Vec<Vec<usize>>,
    /// Of each rank with samples, the mean loss of its supervised tokens.
    #[serde(with = "lossproof_trace::number::list")]
    pub losses: Vec<f64>,
}

/// The end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// The epoch, from 0.
    pub epoch: u32,
    /// Updates of the run so far.
    pub updates: u64,
    /// Loss of the epoch, as it is tracked; NaN where nothing was trained on.
    #[serde(with = "lossproof_trace::number::any")]
    pub training_loss: f64,
    /// What the validation at its end reports.
    pub validation: Validation,
}
