//! What an adapter answers, beside its card and the tensors.

use serde::{Deserialize, Serialize};

/// Nothing more than that it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// What a pass says. Its tensors: `loss`, `gradients/NAME` of every parameter, and `token_losses` of the supervised
/// tokens, where the trainer has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Accumulated {
    /// The trainer's own count of supervised tokens in the batch, where it has one.
    #[serde(default)]
    pub supervised_tokens: Option<usize>,
}

/// What a step says. Its tensors: `loss`, `learning_rate`, `grad_norm`, `clip_factor`, `tensor_norms` in the order of
/// the card's parameters, and `token_losses`, where the trainer has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Stepped {
    /// The trainer's own count of supervised tokens in the batch, where it has one.
    #[serde(default)]
    pub supervised_tokens: Option<usize>,
    /// Whether the step was skipped because the gradient was not finite.
    #[serde(default)]
    pub skipped: bool,
}

/// What a validation says. Its tensors: `loss` and `perplexity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Validated {
    /// Supervised tokens that were counted.
    pub tokens: usize,
}

/// What a training leaves behind. The tensors of event `i`, counted from 0, are `events/i/…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// What happens in a training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// An update. Its tensors: `events/i/parameters/NAME` of every parameter, and `events/i/loss`,
    /// `events/i/learning_rate` and `events/i/grad_norm`, where they are logged.
    Update {
        /// The samples that it is made of, as indices: of each micro-batch, of each rank.
        samples: Vec<Vec<Vec<usize>>>,
        /// Whether it was skipped because the gradient was not finite.
        #[serde(default)]
        skipped: bool,
    },
    /// A validation. Its tensors: `events/i/loss` and `events/i/perplexity`.
    Validation {
        /// Supervised tokens that were counted.
        tokens: usize,
    },
    /// The end of an epoch. Its tensor, where one is logged: `events/i/loss`.
    EpochEnd,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What kind of reason.
    pub kind: FailureKind,
    /// The reason, in words.
    pub message: String,
}

/// Kinds of reasons for no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The trainer has no such loss, optimizer, plan or capability.
    Unsupported,
    /// The batch is outside what the trainer takes.
    Refused,
    /// A mean was to be taken of nothing, and the loss that is claimed has an error then.
    EmptyGroup,
    /// What was saved is of another training.
    OtherTraining,
    /// The trainer failed.
    Failed,
}
