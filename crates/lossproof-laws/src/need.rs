//! What laws need of a subject beyond a forward and backward pass.

use crate::trial::Facts;
use lossproof_spec::Dtype;
use lossproof_subject::{ObjectiveKind, Subject};

/// What a law needs of a subject beyond a forward and backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// [`Subject::parameter_loading`].
    Parameters,
    /// [`Subject::token_losses`].
    TokenLosses,
    /// [`Subject::upstream_weights`].
    UpstreamWeights,
    /// [`Subject::optimizer_steps`].
    OptimizerSteps,
    /// [`Subject::evaluation`].
    Evaluation,
    /// [`Subject::objectives`], and this one among them.
    Objective(ObjectiveKind),
    /// [`Subject::training_loop`].
    TrainingLoop,
    /// Labels that can be ignored.
    IgnoredLabels,
    /// Sequences that may be padded, packed and of any length.
    Segments,
    /// A head that is the embedding.
    TiedHead,
    /// f64.
    DoublePrecision,
    /// Gradients that are added up in more digits than they are computed in.
    FinerAccumulation,
    /// More than one micro-batch a rank.
    SeveralMicroBatches,
    /// One micro-batch a rank.
    OneMicroBatch,
    /// Windows of different numbers of micro-batches.
    ShorterWindows,
    /// More than one rank.
    SeveralRanks,
    /// One rank, and more.
    OneRankAndMore,
}

impl Need {
    /// What the subject lacks, in words, if it does.
    pub(crate) fn lacking(self, subject: &mut dyn Subject) -> Option<&'static str> {
        let limits = subject.info().limits;
        let (met, what) = match self {
            Self::Parameters => (subject.parameter_loading().is_some(), "loading parameters"),
            Self::TokenLosses => (subject.token_losses().is_some(), "evaluating token losses"),
            Self::UpstreamWeights => (subject.upstream_weights().is_some(), "weighting token losses"),
            Self::OptimizerSteps => (subject.optimizer_steps().is_some(), "optimizer steps"),
            Self::Evaluation => (subject.evaluation().is_some(), "validation"),
            Self::Objective(kind) => {
                (subject.objectives().is_some_and(|objectives| objectives.learns(kind)), kind.name())
            }
            Self::TrainingLoop => (subject.training_loop().is_some(), "training"),
            Self::IgnoredLabels => (limits.ignore_index, "ignored labels"),
            Self::Segments => (limits.segments && !limits.lengths.is_exact(), "padded and packed sequences"),
            Self::TiedHead => {
                (subject.parameters().iter().any(|p| p.tied_to.is_some()), "a head tied to the embedding")
            }
            Self::DoublePrecision => {
                let facts = Facts::of(subject);
                let mut dtypes = facts.parameters.iter().map(|p| facts.slope_dtype(&p.name));
                (dtypes.any(|dtype| dtype == Dtype::F64), "double precision")
            }
            Self::FinerAccumulation => {
                let dtypes = subject.info().dtypes;
                let coarser = |dtype: Dtype| dtype.unit_roundoff() > dtypes.accumulation.unit_roundoff();
                (
                    coarser(dtypes.loss) || coarser(dtypes.gradient),
                    "gradients that are added up in more digits than they are computed in",
                )
            }
            Self::SeveralMicroBatches => (limits.micro_batches.most > 1, "several micro-batches"),
            Self::OneMicroBatch => (limits.micro_batches.least <= 1, "a rank with one micro-batch"),
            Self::ShorterWindows => (
                limits.micro_batches.most > limits.micro_batches.least.max(1),
                "windows of different numbers of micro-batches",
            ),
            Self::SeveralRanks => (limits.ranks.most > 1, "several ranks"),
            Self::OneRankAndMore => (limits.ranks.least <= 1 && limits.ranks.most > 1, "one rank, and more"),
        };
        (!met).then_some(what)
    }
}
