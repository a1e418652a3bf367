//! What an adapter says of its trainer: the card, the parameters and the capabilities, in the form that they have in JSON.

use lossproof_spec::{Dtype, Dtypes, LossSpec, Role};
use lossproof_subject::{
    Claims, Count, Limits, LogPolicy, ModelInfo, ObjectiveKind, ParameterInfo, SubjectInfo, UnknownDevice,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Values that all parameters of a model may have together: a law holds several copies of them in memory.
const MOST_VALUES: usize = 1 << 29;

/// Tokens of a vocabulary, and positions: token ids are numbers of 32 bits.
const MOST_TOKENS: usize = 1 << 24;

/// What an adapter says of its trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The version of the protocol that the adapter speaks.
    pub protocol: u32,
    /// Name of the trainer.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it computes with, and that library's version.
    pub framework: String,
    /// Element types of parameters, gradients and losses.
    #[serde(default)]
    pub dtypes: DtypesCard,
    /// Where it computes: `cpu`, `cuda` or `cuda:INDEX`.
    #[serde(default = "cpu")]
    pub device: String,
    /// The loss semantics that it says it has.
    pub claims: ClaimsCard,
    /// What batches it takes.
    pub limits: LimitsCard,
    /// Which loss it logs for a step.
    #[serde(default)]
    pub log_policy: LogPolicy,
    /// What its model is beside trainable parameters.
    #[serde(default)]
    pub model: ModelCard,
    /// The trainable parameters, in the order in which norms of them are answered.
    pub parameters: Vec<ParameterCard>,
    /// What it can do beside a forward and backward pass.
    #[serde(default)]
    pub capabilities: BTreeSet<Capability>,
}

fn cpu() -> String {
    "cpu".to_owned()
}

/// What a trainer can do beside a forward and backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// `load` and `set`.
    ParameterLoading,
    /// `evaluate`.
    TokenLosses,
    /// `backward`.
    UpstreamWeights,
    /// `start`, `step` and `read`.
    OptimizerSteps,
    /// `validate`.
    Evaluation,
    /// `learn` of distributions.
    SoftTargets,
    /// `learn` of masked tokens.
    Masked,
    /// `learn` behind a source that is seen whole.
    Prefix,
    /// `accepts` and `train`.
    TrainingLoop,
    /// `resume`, of a trainer with a loop.
    Resume,
    /// The masks of dropout belong to the samples, of a trainer with a loop.
    MasksOfSamples,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 11] = [
        Self::ParameterLoading,
        Self::TokenLosses,
        Self::UpstreamWeights,
        Self::OptimizerSteps,
        Self::Evaluation,
        Self::SoftTargets,
        Self::Masked,
        Self::Prefix,
        Self::TrainingLoop,
        Self::Resume,
        Self::MasksOfSamples,
    ];

    /// Its name in a card.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ParameterLoading => "parameter-loading",
            Self::TokenLosses => "token-losses",
            Self::UpstreamWeights => "upstream-weights",
            Self::OptimizerSteps => "optimizer-steps",
            Self::Evaluation => "evaluation",
            Self::SoftTargets => "soft-targets",
            Self::Masked => "masked",
            Self::Prefix => "prefix",
            Self::TrainingLoop => "training-loop",
            Self::Resume => "resume",
            Self::MasksOfSamples => "masks-of-samples",
        }
    }

    /// The capability to learn this.
    #[must_use]
    pub fn of(kind: ObjectiveKind) -> Self {
        match kind {
            ObjectiveKind::SoftTargets => Self::SoftTargets,
            ObjectiveKind::Masked => Self::Masked,
            ObjectiveKind::Prefix => Self::Prefix,
        }
    }
}

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

impl Card {
    /// The card of a subject that can do this.
    #[must_use]
    pub fn of(info: &SubjectInfo, parameters: &[ParameterInfo], capabilities: BTreeSet<Capability>) -> Self {
        let limits = &info.limits;
        Self {
            protocol: crate::PROTOCOL,
            name: info.name.clone(),
            version: info.version.clone(),
            framework: info.framework.clone(),
            dtypes: DtypesCard::Each(info.dtypes),
            device: info.device.to_string(),
            claims: match &info.claims {
                Claims::Any => ClaimsCard::Any(Any::Any),
                Claims::One(spec) => ClaimsCard::One(*spec),
                Claims::Several(specs) => ClaimsCard::Several(specs.clone()),
            },
            limits: LimitsCard {
                vocabulary: limits.vocabulary,
                positions: limits.positions,
                lengths: Some(limits.lengths.into()),
                ignore_index: limits.ignore_index,
                free_labels: limits.free_labels,
                segments: limits.segments,
                sequences: limits.sequences.into(),
                micro_batches: limits.micro_batches.into(),
                ranks: limits.ranks.into(),
            },
            log_policy: info.log_policy,
            model: ModelCard {
                frozen: info.model.frozen.iter().map(ParameterCard::from).collect(),
                embedding_scale: info.model.embedding_scale,
                logit_scale: info.model.logit_scale,
                logit_cap: info.model.logit_cap,
            },
            parameters: parameters.iter().map(ParameterCard::from).collect(),
            capabilities,
        }
    }

    /// What it says, in the terms of a subject.
    ///
    /// # Errors
    /// When it says what no trainer can be: no vocabulary, more parameters than can be held, a loss that is none.
    pub fn checked(&self) -> Result<(SubjectInfo, Vec<ParameterInfo>), CardError> {
        let limits = self.limits()?;
        let claims = match &self.claims {
            ClaimsCard::Any(Any::Any) => Claims::Any,
            ClaimsCard::One(spec) => Claims::One(*spec),
            ClaimsCard::Several(specs) => Claims::Several(specs.clone()),
        };
        if matches!(&claims, Claims::Several(specs) if specs.is_empty()) {
            return Err(CardError::NoClaim);
        }
        for spec in claims.listed() {
            spec.validate().map_err(|source| CardError::Claim { source })?;
        }
        let parameters: Vec<ParameterInfo> = self.parameters.iter().map(ParameterInfo::from).collect();
        let frozen: Vec<ParameterInfo> = self.model.frozen.iter().map(ParameterInfo::from).collect();
        check_size(&parameters)?;
        check_size(&frozen)?;
        let info = SubjectInfo {
            name: self.name.clone(),
            version: self.version.clone(),
            framework: self.framework.clone(),
            dtypes: match self.dtypes {
                DtypesCard::One(dtype) => Dtypes::all(dtype),
                DtypesCard::Each(dtypes) => dtypes,
            },
            device: self.device.parse().map_err(|source| CardError::Device { source })?,
            claims,
            limits,
            log_policy: self.log_policy,
            model: ModelInfo {
                frozen,
                embedding_scale: self.model.embedding_scale,
                logit_scale: self.model.logit_scale,
                logit_cap: self.model.logit_cap,
            },
        };
        Ok((info, parameters))
    }

    fn limits(&self) -> Result<Limits, CardError> {
        let own = &self.limits;
        for (what, found) in [("vocabulary", own.vocabulary), ("positions", own.positions)] {
            if !(1..=MOST_TOKENS).contains(&found) {
                return Err(CardError::Number { what, found });
            }
        }
        let limits = Limits {
            vocabulary: own.vocabulary,
            positions: own.positions,
            lengths: own.lengths.map_or(Count::up_to(own.positions), Count::from),
            ignore_index: own.ignore_index,
            free_labels: own.free_labels,
            segments: own.segments,
            sequences: own.sequences.into(),
            micro_batches: own.micro_batches.into(),
            ranks: own.ranks.into(),
        };
        let counts = [
            ("lengths", limits.lengths),
            ("sequences", limits.sequences),
            ("micro_batches", limits.micro_batches),
            ("ranks", limits.ranks),
        ];
        match counts.into_iter().find(|(_, count)| count.most < count.least.max(1)) {
            Some((what, count)) => Err(CardError::Count { what, least: count.least, most: count.most }),
            None => Ok(limits),
        }
    }
}

/// Refuses a model that is larger than can be judged.
fn check_size(parameters: &[ParameterInfo]) -> Result<(), CardError> {
    let mut all = 0_usize;
    for parameter in parameters {
        let values = parameter.shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let sum = values.and_then(|values| all.checked_add(values)).filter(|&sum| sum <= MOST_VALUES);
        all = sum.ok_or_else(|| CardError::Size { name: parameter.name.clone() })?;
    }
    Ok(())
}

/// What no trainer can be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// A number out of its range.
    #[error("`limits.{what}` is {found}: it is a number from 1 to {MOST_TOKENS}")]
    Number {
        /// Which.
        what: &'static str,
        /// The number.
        found: usize,
    },
    /// A range in which nothing lies.
    #[error("`limits.{what}` is from {least} to {most}: one or more must lie between, as in [1, 8]")]
    Count {
        /// Which.
        what: &'static str,
        /// The fewest.
        least: usize,
        /// The most.
        most: usize,
    },
    /// No loss.
    #[error("`claims` is an empty list: name the loss that the trainer has")]
    NoClaim,
    /// A loss that is none.
    #[error("`claims` names a loss that is none")]
    Claim {
        /// What is wrong with it.
        source: lossproof_spec::InvalidSpec,
    },
    /// A device that is none.
    #[error("`device`")]
    Device {
        /// What is wrong with it.
        source: UnknownDevice,
    },
    /// More values than can be held.
    #[error(
        "with `{name}` the parameters have more than {MOST_VALUES} values: judge a smaller model of this kind"
    )]
    Size {
        /// The parameter with which they are too many.
        name: String,
    },
}
