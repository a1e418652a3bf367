//! What the judge asks.

use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Optimizer};
use lossproof_subject::{Call, ObjectiveBatch, ObjectiveKind, TrainingPlan};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The version of the protocol that is spoken here.
pub const PROTOCOL: u32 = 1;

/// A question. What stands in tensors behind it is said of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "call", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request<'a> {
    /// What are you? Answered by a [`Card`](crate::Card).
    Hello {
        /// The version of the protocol that is spoken.
        protocol: u32,
    },
    /// Back to the initial parameters: no gradient, no optimizer state.
    Reset,
    /// From now on this loss.
    Configure {
        /// One of those that the card claims.
        spec: LossSpec,
    },
    /// Forward and backward of a batch, without a step. Answered by [`Accumulated`](crate::Accumulated).
    Accumulate {
        /// Ranks of micro-batches of sequences.
        batch: Cow<'a, GlobalBatch>,
    },
    /// Replace every parameter by `parameters/NAME`; these are the initial ones from now on.
    Load,
    /// Replace one parameter by the tensor `values`, until the next `reset` or `load`.
    Set {
        /// Its name.
        name: Cow<'a, str>,
    },
    /// The loss of every prediction of a batch, the ignored ones included. Answered by the tensor `token_losses`.
    Evaluate {
        /// The batch.
        batch: Cow<'a, GlobalBatch>,
    },
    /// Forward and backward of the sum of token losses, each times one of the tensor `weights`. Answered by
    /// [`Accumulated`](crate::Accumulated).
    Backward {
        /// The batch.
        batch: Cow<'a, GlobalBatch>,
    },
    /// From now on this optimizer, without state.
    Start {
        /// Rule, rate, warm-up, clipping, loss scale.
        optimizer: Optimizer,
    },
    /// One optimizer step. Answered by [`Stepped`](crate::Stepped).
    Step {
        /// The batch.
        batch: Cow<'a, GlobalBatch>,
    },
    /// The parameters. Answered by tensors `parameters/NAME`.
    Read,
    /// The mean loss over these micro-batches and its perplexity. Answered by [`Validated`](crate::Validated).
    Validate {
        /// The micro-batches.
        batches: Cow<'a, [MicroBatch]>,
    },
    /// Forward and backward of another objective than the next token. Answered by
    /// [`Accumulated`](crate::Accumulated).
    Learn {
        /// Which.
        objective: ObjectiveKind,
        /// The sequences.
        batch: Cow<'a, MicroBatch>,
        /// Of a prefix language model: positions of each sequence that are its source.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prefixes: Vec<usize>,
        // The distributions of soft targets are the tensor `targets`, a row for each supervised token.
    },
    /// Whether the loop can run such a plan.
    Accepts {
        /// The plan.
        plan: Cow<'a, TrainingPlan>,
    },
    /// Run a training. Answered by [`Trained`](crate::Trained).
    Train {
        /// The plan.
        plan: Cow<'a, TrainingPlan>,
        /// Updates after which to stop and to save everything.
        stop_after: Option<u64>,
    },
    /// Go on from what was saved last. Answered by [`Trained`](crate::Trained).
    Resume {
        /// The plan.
        plan: Cow<'a, TrainingPlan>,
        /// Updates after which to stop and to save everything.
        stop_after: Option<u64>,
    },
    /// Nothing more is asked. The process ends after its answer.
    Bye,
}

impl Request<'_> {
    /// The method of a subject that it asks.
    #[must_use]
    pub fn call(&self) -> Call {
        match self {
            Self::Hello { .. } | Self::Bye => Call::Info,
            Self::Reset => Call::Reset,
            Self::Configure { .. } => Call::Configure,
            Self::Accumulate { .. } => Call::Accumulate,
            Self::Load => Call::Load,
            Self::Set { .. } => Call::Set,
            Self::Evaluate { .. } => Call::Evaluate,
            Self::Backward { .. } => Call::Backward,
            Self::Start { .. } => Call::Start,
            Self::Step { .. } => Call::Step,
            Self::Read => Call::Read,
            Self::Validate { .. } => Call::Validate,
            Self::Learn { .. } => Call::Learn,
            Self::Accepts { .. } => Call::Accepts,
            Self::Train { .. } => Call::Train,
            Self::Resume { .. } => Call::Resume,
        }
    }

    /// Whether the answers to later questions depend on it.
    #[must_use]
    pub(crate) fn changes_state(&self) -> bool {
        matches!(
            self,
            Self::Reset
                | Self::Configure { .. }
                | Self::Load
                | Self::Set { .. }
                | Self::Start { .. }
                | Self::Step { .. }
                | Self::Train { .. }
                | Self::Resume { .. }
        )
    }

    /// The question that asks to learn this. Its distributions stand in the tensor `targets`.
    pub(crate) fn learn(batch: &ObjectiveBatch) -> Request<'_> {
        let prefixes = match batch {
            ObjectiveBatch::Prefix { prefixes, .. } => prefixes.clone(),
            _ => Vec::new(),
        };
        Request::Learn { objective: batch.kind(), batch: Cow::Borrowed(batch.micro_batch()), prefixes }
    }
}
