//! What a log holds: rows of numbers, each at an update, a count of tokens, or both.

use crate::Resolution;
use serde::{Serialize, Serializer};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

/// What a number of a log is. They are in the order in which a step computes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Quantity {
    /// The learning rate.
    LearningRate,
    /// The training loss.
    Loss,
    /// The norm of the whole gradient.
    GradNorm,
    /// What the gradient was multiplied with.
    ClipFactor,
    /// The norm of one parameter's gradient.
    TensorNorm(String),
    /// The loss of a validation.
    ValidationLoss,
    /// The perplexity of a validation.
    Perplexity,
    /// Anything else, under the name that the log has for it.
    Other(String),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LearningRate => f.write_str("learning rate"),
            Self::Loss => f.write_str("loss"),
            Self::GradNorm => f.write_str("grad norm"),
            Self::ClipFactor => f.write_str("clip factor"),
            Self::TensorNorm(parameter) => write!(f, "grad norm of {parameter}"),
            Self::ValidationLoss => f.write_str("validation loss"),
            Self::Perplexity => f.write_str("perplexity"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// What logs are lined up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The number of the update.
    Update,
    /// Tokens seen so far.
    Tokens,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Update => "update",
            Self::Tokens => "tokens",
        })
    }
}

/// What one column of a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reading {
    /// The number of the update.
    Update,
    /// Tokens seen so far.
    Tokens,
    /// A quantity.
    Quantity(Quantity),
}

impl FromStr for Reading {
    type Err = String;

    /// As a person writes it: `update`, `tokens`, `loss`, `grad-norm`, `learning-rate`, `clip-factor`,
    /// `validation-loss`, `perplexity`.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "update" => Self::Update,
            "tokens" => Self::Tokens,
            "loss" => Self::Quantity(Quantity::Loss),
            "grad-norm" => Self::Quantity(Quantity::GradNorm),
            "learning-rate" => Self::Quantity(Quantity::LearningRate),
            "clip-factor" => Self::Quantity(Quantity::ClipFactor),
            "validation-loss" => Self::Quantity(Quantity::ValidationLoss),
            "perplexity" => Self::Quantity(Quantity::Perplexity),
            other => {
                return Err(format!(
                    "there is no quantity `{other}`: it is one of update, tokens, loss, grad-norm, learning-rate, \
                     clip-factor, validation-loss, perplexity"
                ));
            }
        })
    }
}

/// Numbers that were logged together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Updates that were done, this one included: the first update is 1.
    pub update: Option<u64>,
    /// Tokens seen so far.
    pub tokens: Option<u64>,
    /// The numbers.
    pub values: BTreeMap<Quantity, f64>,
}

/// Who wrote a log, by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// A loss trace of lossproof.
    Trace,
    /// The trace of a loop, as `lossproof train --trace` writes it.
    LoopTrace,
    /// `trainer_state.json` of transformers' `Trainer`.
    TrainerState,
    /// `main.log` of llm.c.
    MainLog,
    /// Lines of JSON with names of their own.
    JsonLines,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "loss trace",
            Self::LoopTrace => "trace of a loop",
            Self::TrainerState => "trainer_state.json of transformers",
            Self::MainLog => "main.log of llm.c",
            Self::JsonLines => "JSON lines",
        })
    }
}

/// What a trainer logged over a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Where it is from, as a person calls it.
    pub name: String,
    /// Who wrote it.
    pub format: Format,
    /// What was logged, in the order of the file.
    pub rows: Vec<Row>,
    /// By how much a printed number may differ from the one that was computed.
    pub resolution: BTreeMap<Quantity, Resolution>,
    /// Unit round-off of what computed it, where the log says so.
    pub unit_roundoff: Option<f64>,
    /// What had to be supposed to read it, in words.
    pub notes: Vec<String>,
}

impl Log {
    /// The quantities that it has a number of, in the order in which a step computes them.
    #[must_use]
    pub fn quantities(&self) -> Vec<Quantity> {
        let quantities: BTreeSet<&Quantity> = self.rows.iter().flat_map(|row| row.values.keys()).collect();
        quantities.into_iter().cloned().collect()
    }

    /// The numbers of a quantity by place. Of several at one place the last counts; with it the number of places at
    /// which another number stood before.
    #[must_use]
    pub fn series(&self, quantity: &Quantity, by: Place) -> (BTreeMap<u64, f64>, usize) {
        let (mut series, mut replaced) = (BTreeMap::new(), BTreeSet::new());
        for row in &self.rows {
            let place = match by {
                Place::Update => row.update,
                Place::Tokens => row.tokens,
            };
            if let (Some(place), Some(&value)) = (place, row.values.get(quantity))
                && let Some(before) = series.insert(place, value)
                && before.to_bits() != value.to_bits()
            {
                replaced.insert(place);
            }
        }
        (series, replaced.len())
    }

    /// By how much a printed number of a quantity may differ from the one that was computed.
    #[must_use]
    pub fn resolution(&self, quantity: &Quantity) -> Resolution {
        self.resolution.get(quantity).copied().unwrap_or_default()
    }
}
