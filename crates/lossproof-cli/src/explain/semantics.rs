//! The semantics that are compared, and why two of them coincide on a batch.

use super::batch::{Batch, Extent};
use crate::number::grouped;
use lossproof_spec::LossSpec;

/// A way to make one number of the losses of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Semantics {
    Sum,
    TokenMean,
    SequenceMean,
    BatchMean,
    NaiveAccumulation,
    TokenMeanAccumulated,
    ForgottenDivision,
    NaiveDataParallel,
    AveragingNotUndone,
}

impl Semantics {
    /// All of them, in the order of their letters.
    pub(super) const ALL: [Self; 9] = [
        Self::Sum,
        Self::TokenMean,
        Self::SequenceMean,
        Self::BatchMean,
        Self::NaiveAccumulation,
        Self::TokenMeanAccumulated,
        Self::ForgottenDivision,
        Self::NaiveDataParallel,
        Self::AveragingNotUndone,
    ];

    /// Those that are of interest for a batch: errors of splitting only when it is split.
    pub(super) fn all(batch: &Batch) -> &'static [Self] {
        if batch.groups() > 1 { &Self::ALL } else { &Self::ALL[..6] }
    }

    pub(super) fn spec(self) -> LossSpec {
        match self {
            Self::Sum => LossSpec::sum(),
            Self::TokenMean | Self::TokenMeanAccumulated => LossSpec::token_mean(),
            Self::SequenceMean => LossSpec::sequence_mean(),
            Self::BatchMean => LossSpec::batch_mean(),
            Self::NaiveAccumulation => LossSpec::naive_accumulated_mean(),
            Self::ForgottenDivision => LossSpec::forgotten_division(),
            Self::NaiveDataParallel => LossSpec::naive_data_parallel(),
            Self::AveragingNotUndone => LossSpec::averaging_not_undone(),
        }
    }

    /// The letter it is referred to by.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Sum => 'A',
            Self::TokenMean => 'B',
            Self::SequenceMean => 'C',
            Self::BatchMean => 'D',
            Self::NaiveAccumulation => 'E',
            Self::TokenMeanAccumulated => 'F',
            Self::ForgottenDivision => 'G',
            Self::NaiveDataParallel => 'H',
            Self::AveragingNotUndone => 'I',
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::TokenMean => "per-token mean",
            Self::SequenceMean => "per-sequence mean",
            Self::BatchMean => "batch mean",
            Self::NaiveAccumulation => "naive accumulated mean",
            Self::TokenMeanAccumulated => "accumulated per-token mean",
            Self::ForgottenDivision => "forgotten division",
            Self::NaiveDataParallel => "naive data parallel",
            Self::AveragingNotUndone => "averaging not undone",
        }
    }

    /// What a loss is divided by on its way into the sum.
    pub(super) fn divided_by(self) -> &'static str {
        match self {
            Self::Sum => "nothing",
            Self::TokenMean => "N, all losses",
            Self::SequenceMean => "losses in its sequence, then n",
            Self::BatchMean => "n, all sequences",
            Self::NaiveAccumulation => "losses in micro-batch, then K·R",
            Self::TokenMeanAccumulated => "N, over all micro-batches",
            Self::ForgottenDivision => "losses in its micro-batch",
            Self::NaiveDataParallel => "losses on its rank, then R",
            Self::AveragingNotUndone => "N, then R",
        }
    }
}

/// Why two semantics are one on a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// They are one on every batch.
    Always(&'static str),
    /// Because of something about this batch.
    Here {
        /// The circumstance.
        because: String,
        /// What would tell them apart.
        unless: &'static str,
    },
}

/// Why `one` and `other`, whose weights agree on `batch`, agree; `None` when no rule knows.
pub(super) fn why(one: Semantics, other: Semantics, batch: &Batch) -> Option<Why> {
    use Semantics::{
        AveragingNotUndone, BatchMean, ForgottenDivision, NaiveAccumulation, NaiveDataParallel, SequenceMean,
        Sum, TokenMean, TokenMeanAccumulated,
    };
    let equally_many = |parts: &str, losses: Extent| {
        losses.all_equal().map(|count| format!("all {parts} hold equally many losses ({})", grouped(count)))
    };
    let when = |circumstance: bool, what: &str| circumstance.then(|| what.to_owned());
    let (because, unless) = match (one, other) {
        (TokenMean, TokenMeanAccumulated) => return Some(Why::Always("F is B, computed in parts")),
        (Sum, TokenMean) => (when(batch.supervised == 1, "there is one loss only"), "Add a token"),
        (Sum, BatchMean) => (when(batch.sequences == 1, "there is one sequence only"), "Add a sequence"),
        (TokenMean, SequenceMean) if batch.sequences == 1 => {
            (Some("there is one sequence only".to_owned()), "Add a sequence of another length")
        }
        (TokenMean, SequenceMean) => {
            (equally_many("sequences", batch.sequence_losses), "Give one sequence another length")
        }
        (TokenMean, BatchMean) => (
            when(batch.supervised == batch.sequences, "there are as many losses as sequences"),
            "Lengthen a sequence",
        ),
        (TokenMean, NaiveAccumulation) if batch.groups() == 1 => (
            Some("there is one micro-batch only".to_owned()),
            "Split the batch (--micro-batches) into parts with unequal numbers of losses",
        ),
        (TokenMean, NaiveAccumulation) => (
            equally_many("micro-batches", batch.micro_batch_losses),
            "Give one micro-batch a longer sequence or one sequence more",
        ),
        (TokenMean, NaiveDataParallel | AveragingNotUndone) if batch.ranks == 1 => {
            (Some("there is one rank only".to_owned()), "Add a rank (--ranks)")
        }
        (TokenMean, NaiveDataParallel) => {
            (equally_many("ranks", batch.rank_losses), "Give one rank a longer sequence or one sequence more")
        }
        (TokenMean, ForgottenDivision) => (
            when(batch.micro_batch_losses.most == batch.supervised, "all losses are in one micro-batch"),
            "Let another micro-batch make a prediction",
        ),
        (NaiveAccumulation, NaiveDataParallel) => (
            when(batch.micro_batches == 1, "every rank has one micro-batch only"),
            "Give the ranks several micro-batches of unequal size",
        ),
        (SequenceMean, NaiveAccumulation) => (
            when(batch.dealt.most == 1, "every micro-batch holds one sequence only"),
            "Put two sequences of unequal length into one",
        ),
        (NaiveDataParallel, AveragingNotUndone) => (
            when(batch.rank_losses.most == batch.supervised, "all losses are on one rank"),
            "Let another rank make a prediction",
        ),
        _ => return None,
    };
    Some(Why::Here { because: because?, unless })
}
