//! What an adapter says of its trainer: the card, the parameters and the capabilities, in the form that they have
//! in JSON.

mod capability;
mod parts;

pub use capability::Capability;
use lossproof_spec::Dtypes;
use lossproof_subject::{
    Claims, Count, Limits, LogPolicy, ModelInfo, ParameterInfo, SubjectInfo, UnknownDevice,
};
pub use parts::{Any, ClaimsCard, CountCard, DtypesCard, LimitsCard, ModelCard, ParameterCard};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Values that all parameters of a model may have together: a law holds several copies of them in memory.
const MOST_VALUES: usize = 1 << 27;

/// Tokens of a vocabulary, and positions: token ids are numbers of 32 bits.
const MOST_TOKENS: usize = 1 << 24;

/// Positions of the smallest batch that a trainer takes.
const MOST_NEEDED: usize = 1 << 16;

/// Bytes of a name.
const LONGEST_NAME: usize = 1 << 10;

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
        let parameters = self.parameters.iter().chain(&self.model.frozen).map(|one| &one.name);
        for name in [&self.name, &self.version, &self.framework].into_iter().chain(parameters) {
            if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
                let shown = name.chars().filter(|c| !c.is_control()).take(40).collect();
                return Err(CardError::Name { shown });
            }
        }
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
        let mut lengths = own.lengths.map_or(Count::up_to(own.positions), Count::from);
        // A position without an id cannot be asked for.
        lengths.most = lengths.most.min(own.positions);
        let limits = Limits {
            vocabulary: own.vocabulary,
            positions: own.positions,
            lengths,
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
        if let Some((what, count)) = counts.into_iter().find(|(_, count)| count.most < count.least.max(1)) {
            return Err(CardError::Count { what, least: count.least, most: count.most });
        }
        let least =
            counts.into_iter().try_fold(1_usize, |all, (_, count)| all.checked_mul(count.least.max(1)));
        if least.is_none_or(|least| least > MOST_NEEDED) {
            return Err(CardError::Needed);
        }
        Ok(limits)
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
    /// Batches that cannot be made.
    #[error("by `limits` the smallest batch has more than {MOST_NEEDED} positions: take smaller ones")]
    Needed,
    /// A name that is none.
    #[error(
        "`{shown}…` is no name: it has more than {LONGEST_NAME} bytes, or a character that cannot be seen"
    )]
    Name {
        /// How it begins.
        shown: String,
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
