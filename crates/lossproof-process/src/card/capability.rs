//! What a trainer can do beside a forward and backward pass.

use lossproof_subject::ObjectiveKind;
use serde::{Deserialize, Serialize};

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
