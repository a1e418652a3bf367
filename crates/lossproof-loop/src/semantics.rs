//! What a loop means by an epoch, a window, a schedule and a logged loss: every choice by name.
//!
//! [`Semantics::LAWFUL`] is what the clauses of groups 8 to 10 ask for. [`Semantics::RUN_CLM_NO_TRAINER`] is what
//! Hugging Face's `run_clm_no_trainer.py` does with accelerate, quirk by quirk.

use serde::{Deserialize, Serialize};

/// Every choice of a loop that changes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Semantics {
    /// How the micro-batches of an update weigh.
    pub window: Window,
    /// How an epoch that does not divide is spread over ranks.
    pub shards: Shards,
    /// When the schedule ticks.
    pub clock: Clock,
    /// What is logged as the loss of an epoch.
    pub tracking: Tracking,
    /// What a validation reports.
    pub evaluation: EvaluationMean,
    /// Which parameters decay.
    pub decay: DecayGroups,
    /// What a resumed epoch goes on with.
    pub resume: Resume,
    /// From what blocks are cut.
    pub blocks: BlockSource,
    /// What becomes of an update that has nothing to go by.
    pub idle: IdleUpdate,
}

/// How the micro-batches of an update weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// Every supervised token of the window weighs the same: the sum of their losses, divided by their number over
    /// all micro-batches and ranks.
    Tokens,
    /// Every micro-batch's own mean is divided by the configured number of micro-batches, also in a window of
    /// fewer, and averaged over ranks.
    ConfiguredMicroBatches,
}

/// How an epoch that does not divide is spread over ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shards {
    /// Every sample once: at the epoch's end some ranks have fewer samples, or none.
    EverySampleOnce,
    /// Ranks are filled up with samples from the epoch's start, as accelerate's `even_batches` does.
    FilledUp,
}

/// When the schedule ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Once per update, whatever the ranks, from its first warm-up step to its last: no update has the rate zero.
    PerUpdate,
    /// Once per update and rank, over a length counted from batches that were not sharded, from a rate of zero
    /// at the first update on.
    PerRank,
}

/// What is logged as the loss of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tracking {
    /// The mean over all supervised tokens that were trained on.
    Tokens,
    /// Rank 0's mean of micro-batch means, each by its samples, in single precision (since transformers #41904).
    SamplesOfFirstRank,
    /// Rank 0's sum of micro-batch means over the length of a whole epoch, in single precision (before #41904).
    MeansOverWholeEpoch,
}

/// What a validation reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvaluationMean {
    /// The mean over all supervised tokens of all samples, each once.
    Tokens,
    /// The mean over batches repeated once per sample, gathered from ranks that were filled up, and cut to
    /// the number of samples.
    GatheredRepeats,
}

/// Which parameters decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayGroups {
    /// No bias and no norm gain decays, by the roles of the parameters.
    ByRole,
    /// Those that the update rule says, by their shapes ([`Decayed`](lossproof_spec::Decayed)).
    ByShape,
    /// No name decays that has `bias`, `layernorm`, `rmsnorm` or `norm` in it, nor a layer norm's (since #42769).
    NotNorms,
    /// No name decays that has `bias` or `layer_norm.weight` in it: GPT-2's norms decay (before #42769).
    NotLayerNormByName,
}

/// What a resumed epoch goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resume {
    /// With the micro-batch after the last that was trained on.
    Exact,
    /// Where the number of updates times the configured number of micro-batches leads, also where windows were
    /// shorter.
    ConfiguredWindows,
}

/// From what blocks are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockSource {
    /// The whole text.
    WholeText,
    /// A thousand lines at a time: the remainder of each is dropped.
    ThousandLines,
}

/// What becomes of an update whose gradient is not finite, or whose window has no supervised token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdleUpdate {
    /// It is skipped and counts nowhere: not among the updates, in no moment and in no schedule.
    Skipped,
    /// It is made as any other.
    Made,
}

impl Semantics {
    /// What the clauses ask for.
    pub const LAWFUL: Self = Self {
        window: Window::Tokens,
        shards: Shards::EverySampleOnce,
        clock: Clock::PerUpdate,
        tracking: Tracking::Tokens,
        evaluation: EvaluationMean::Tokens,
        decay: DecayGroups::ByRole,
        resume: Resume::Exact,
        blocks: BlockSource::WholeText,
        idle: IdleUpdate::Skipped,
    };

    /// What the script does since transformers #41904 and #42769.
    pub const RUN_CLM_NO_TRAINER: Self = Self {
        window: Window::ConfiguredMicroBatches,
        shards: Shards::FilledUp,
        clock: Clock::PerRank,
        tracking: Tracking::SamplesOfFirstRank,
        evaluation: EvaluationMean::GatheredRepeats,
        decay: DecayGroups::NotNorms,
        resume: Resume::ConfiguredWindows,
        blocks: BlockSource::ThousandLines,
        idle: IdleUpdate::Made,
    };
}
