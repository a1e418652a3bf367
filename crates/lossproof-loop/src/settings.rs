//! Everything that decides the numbers of a run, besides the trainer, its initial parameters and the text.

use crate::{Objective, Schedule, Semantics, schedule::POLYNOMIAL_END};
use lossproof_spec::{Adam, Clip, Decayed, EpsilonPlacement, Rule};
use serde::{Deserialize, Serialize};

/// Everything that decides the numbers of a run, besides the trainer, its initial parameters and the text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the loop means by its words.
    pub semantics: Semantics,
    /// What is learnt.
    pub objective: Objective,
    /// Tokens of a block.
    pub block: usize,
    /// What becomes of the tokens that fill no block.
    pub remainder: Remainder,
    /// How many hundredths of the lines of the text, from its start, are kept for validation.
    pub validation_percent: u32,
    /// Samples of a micro-batch on one rank.
    pub batch: usize,
    /// Samples of a validation batch on one rank.
    pub evaluation_batch: usize,
    /// Micro-batches of an update on one rank.
    pub accumulate: usize,
    /// Number of ranks. Where they are is for the [`Ranks`](crate::Ranks) of a run to say.
    pub ranks: usize,
    /// How long the run is.
    pub length: Length,
    /// Fixes the order of the samples, the dropout and what is masked.
    pub seed: u64,
    /// The update rule with its numbers. Which parameters decay is for the [`Semantics`] to say.
    pub rule: Rule,
    /// The base learning rate.
    pub learning_rate: f64,
    /// How it changes.
    pub schedule: Schedule,
    /// Updates of warm-up.
    pub warm_up: u64,
    /// Clipping by the norm over all parameters and ranks, once per update.
    pub clip: Option<Clip>,
    /// ε of label smoothing while training; a validation is never smoothed.
    pub label_smoothing: f64,
    /// Probability of dropout after the embedding, on attention weights and on what layers add.
    pub dropout: f64,
    /// Updates between two validations; 0: only at the end of an epoch.
    pub evaluate_every: u64,
}

/// `AdamW` with the numbers that PyTorch's constructor has, and this weight decay.
#[must_use]
pub fn adam_w(weight_decay: f64) -> Rule {
    Rule::AdamW(Adam {
        beta_1: 0.9,
        beta_2: 0.999,
        epsilon: 1e-8,
        epsilon_placement: EpsilonPlacement::AfterCorrection,
        weight_decay,
        decayed: Decayed::All,
    })
}

/// What becomes of the tokens that fill no block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remainder {
    /// They are left out, as Hugging Face's `group_texts` does.
    #[default]
    Dropped,
    /// They make a last, shorter block where at least two are left.
    Kept,
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// So many times through the samples.
    Epochs(u32),
    /// So many updates, however many epochs that are.
    Updates(u64),
}

/// Samples of a batch, micro-batches of a window, ranks and updates of a run: more than anybody has, and few
/// enough that no product of them overflows.
const MOST_SAMPLES: usize = 1 << 31;
const MOST_RANKS: usize = 1 << 16;
const MOST_UPDATES: u64 = 1 << 40;

impl Settings {
    /// Whether there is such a run.
    ///
    /// # Errors
    /// Naming the first setting that makes no sense, and what to give.
    pub fn check(&self) -> Result<(), SettingsError> {
        let counts = [
            ("the batch", self.batch, MOST_SAMPLES),
            ("the validation batch", self.evaluation_batch, MOST_SAMPLES),
            ("the number of micro-batches of an update", self.accumulate, MOST_SAMPLES),
            ("the number of ranks", self.ranks, MOST_RANKS),
        ];
        for (what, count, most) in counts {
            if count == 0 {
                return Err(SettingsError::new(what, &0, "at least 1"));
            }
            if count > most {
                return Err(SettingsError::new(what, &count, "a number that a machine can hold"));
            }
        }
        let updates = if let Length::Updates(updates) = self.length { updates } else { 0 };
        for (what, count) in [("the warm-up", self.warm_up), ("the length of the run", updates)] {
            if count > MOST_UPDATES {
                return Err(SettingsError::new(what, &count, "fewer updates"));
            }
        }
        if self.block < 2 {
            return Err(SettingsError::new(
                "the block",
                &self.block,
                "at least 2: one token predicts nothing",
            ));
        }
        if matches!(self.length, Length::Epochs(0) | Length::Updates(0)) {
            return Err(SettingsError::new("the length of the run", &0, "at least one epoch or update"));
        }
        if self.validation_percent >= 100 {
            return Err(SettingsError::new(
                "the validation",
                &self.validation_percent,
                "less than 100 percent",
            ));
        }
        for (what, probability) in [("dropout", self.dropout), ("label smoothing", self.label_smoothing)] {
            if !(0.0..1.0).contains(&probability) {
                return Err(SettingsError::new(what, &probability, "a number of [0, 1)"));
            }
        }
        if !(self.learning_rate.is_finite() && self.learning_rate >= 0.0) {
            return Err(SettingsError::new(
                "the learning rate",
                &self.learning_rate,
                "a number that is not negative",
            ));
        }
        if self.schedule == Schedule::Polynomial && self.learning_rate <= POLYNOMIAL_END {
            let remedy = "more than 1e-7, at which the polynomial schedule ends";
            return Err(SettingsError::new("the learning rate", &self.learning_rate, remedy));
        }
        let (Rule::Sgd { weight_decay, .. }
        | Rule::Adam(Adam { weight_decay, .. })
        | Rule::AdamW(Adam { weight_decay, .. })) = self.rule;
        if !(weight_decay.is_finite() && weight_decay >= 0.0) {
            return Err(SettingsError::new("weight decay", &weight_decay, "a number that is not negative"));
        }
        if let Some(clip) = self.clip
            && !(clip.max_norm > 0.0 && clip.max_norm.is_finite() && clip.epsilon >= 0.0)
        {
            return Err(SettingsError::new(
                "clipping to the norm",
                &clip.max_norm,
                "a positive norm that is finite",
            ));
        }
        Ok(())
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {found}: give {remedy}")]
pub struct SettingsError {
    what: String,
    found: String,
    remedy: &'static str,
}

impl SettingsError {
    fn new(what: &str, found: &impl ToString, remedy: &'static str) -> Self {
        Self { what: what.to_owned(), found: found.to_string(), remedy }
    }
}
