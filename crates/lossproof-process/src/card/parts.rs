//! The parts of a card, in the forms that they have in JSON.

use lossproof_spec::{Dtype, Dtypes, LossSpec, Role};
use lossproof_subject::{Count, ParameterInfo};
use serde::{Deserialize, Serialize};

/// Element types: one for everything, or one of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum DtypesCard {
    /// One for everything.
    One(Dtype),
    /// One of each kind.
    Each(Dtypes),
}

impl Default for DtypesCard {
    fn default() -> Self {
        Self::One(Dtype::F32)
    }
}

/// Claimed loss semantics: the word `any`, or one or several specs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum ClaimsCard {
    /// Every semantics of the calculus.
    Any(Any),
    /// One.
    One(LossSpec),
    /// Several.
    Several(Vec<LossSpec>),
}

/// The word `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Any {
    /// Every semantics of the calculus.
    Any,
}

/// How many there may be: a number, or the fewest and the most, where `null` is any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum CountCard {
    /// So many.
    Exactly(usize),
    /// The fewest and the most.
    Between(usize, Option<usize>),
}

impl Default for CountCard {
    fn default() -> Self {
        Self::Between(1, None)
    }
}

impl From<CountCard> for Count {
    fn from(card: CountCard) -> Self {
        match card {
            CountCard::Exactly(count) => Self::exactly(count),
            CountCard::Between(least, most) => Self { least, most: most.unwrap_or(usize::MAX) },
        }
    }
}

impl From<Count> for CountCard {
    fn from(count: Count) -> Self {
        Self::Between(count.least, (count.most != usize::MAX).then_some(count.most))
    }
}

/// What batches a trainer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitsCard {
    /// Token ids are below this.
    pub vocabulary: usize,
    /// Position ids are below this.
    pub positions: usize,
    /// Positions of a sequence; by default up to as many as there are position ids.
    #[serde(default)]
    pub lengths: Option<CountCard>,
    /// Whether labels may be ignored.
    #[serde(default = "yes")]
    pub ignore_index: bool,
    /// Whether a label may be another token than the one at its position.
    #[serde(default = "yes")]
    pub free_labels: bool,
    /// Whether sequences may be padded or packed.
    #[serde(default)]
    pub segments: bool,
    /// Sequences of a micro-batch.
    #[serde(default)]
    pub sequences: CountCard,
    /// Micro-batches of a rank.
    #[serde(default)]
    pub micro_batches: CountCard,
    /// Ranks of a batch.
    #[serde(default)]
    pub ranks: CountCard,
}

fn yes() -> bool {
    true
}

/// What a model is beside its trainable parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// Parameters that are not trained.
    #[serde(default)]
    pub frozen: Vec<ParameterCard>,
    /// What the token embedding is multiplied by where it enters the model.
    #[serde(default = "one")]
    pub embedding_scale: f64,
    /// What the head's products are multiplied by.
    #[serde(default = "one")]
    pub logit_scale: f64,
    /// The c of logits that are `c·tanh(z/c)`.
    #[serde(default)]
    pub logit_cap: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl Default for ModelCard {
    fn default() -> Self {
        Self { frozen: Vec::new(), embedding_scale: 1.0, logit_scale: 1.0, logit_cap: None }
    }
}

/// A parameter. What is left out is what its name implies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ParameterCard {
    /// Any name; Hugging Face's imply role and block.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// What it does in the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The number of its block, from 0; -1 outside the blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<i64>,
    /// The other name under which the same values are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tied_to: Option<String>,
    /// The element type in which it is held, where that is another than the card's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
}

impl From<&ParameterCard> for ParameterInfo {
    fn from(card: &ParameterCard) -> Self {
        let implied = Self::named(&card.name, &card.shape);
        Self {
            role: card.role.unwrap_or(implied.role),
            block: card.block.map_or(implied.block, |block| usize::try_from(block).ok()),
            tied_to: card.tied_to.clone(),
            dtype: card.dtype,
            ..implied
        }
    }
}

impl From<&ParameterInfo> for ParameterCard {
    fn from(info: &ParameterInfo) -> Self {
        let implied = ParameterInfo::named(&info.name, &info.shape);
        let block = info.block.and_then(|block| i64::try_from(block).ok()).unwrap_or(-1);
        Self {
            name: info.name.clone(),
            shape: info.shape.clone(),
            role: (info.role != implied.role).then_some(info.role),
            block: (info.block != implied.block).then_some(block),
            tied_to: info.tied_to.clone(),
            dtype: info.dtype,
        }
    }
}
