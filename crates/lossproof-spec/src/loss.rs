//! Names for loss semantics: how per-token losses become the number that is differentiated.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What the sum of the supervised token losses is divided by, within the scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// By nothing. PyTorch's `reduction="sum"`.
    Sum,
    /// By the number of supervised tokens. PyTorch's `reduction="mean"` with `ignore_index`.
    TokenMean,
    /// The mean over sequences of each sequence's own token mean.
    SequenceMean,
    /// By the number of sequences: "the sum divided by n".
    BatchMean,
}

/// Where the normaliser is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// In each micro-batch by itself.
    MicroBatch,
    /// Over all micro-batches of one rank between two optimizer steps.
    RankWindow,
    /// Over all micro-batches of all ranks.
    Global,
}

/// How the losses (and gradients) of micro-batches, or of ranks, are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// Added.
    Add,
    /// Averaged: divided by the number of micro-batches of the rank, or by the world size.
    Average,
}

/// What a group (sequence, micro-batch or rank) without a supervised token contributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EmptyPolicy {
    /// Zero, and it still counts among the sequences, micro-batches and ranks that are averaged over.
    #[default]
    ZeroCounted,
    /// Zero, and it is left out of those counts.
    ZeroSkipped,
    /// NaN where a mean is taken over nothing, as PyTorch's own mean does.
    Nan,
    /// An error where a mean would be taken over nothing.
    Error,
}

impl EmptyPolicy {
    /// All of them, from the simplest on.
    pub const ALL: [Self; 4] = [Self::ZeroCounted, Self::ZeroSkipped, Self::Nan, Self::Error];
}

/// What is counted as a token by the token mean and the sequence mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Counting {
    /// Supervised tokens: predictions whose label is not ignored.
    #[default]
    Supervised,
    /// Labels that are not ignored, *before* the shift: one too many for each sequence whose first label is given.
    BeforeShift,
    /// Every predicted position, ignored ones and padding to the scope's width included.
    AllPositions,
}

/// A loss semantics. Two specs are the same semantics on a batch iff their token weights are equal there.
///
/// With `N_S` supervised tokens and `n_S` sequences in the scope, `l_i` supervised tokens in a sequence, `K_r`
/// micro-batches on the rank and `R` ranks, a supervised token weighs `a·b/D`, where `D` is 1, `N_S`, `n_S·l_i` or
/// `n_S` by the reduction, `a` is 1 or `1/K_r`, and `b` is 1 or `1/R`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LossSpec {
    /// What the summed losses are divided by.
    pub reduction: Reduction,
    /// Where that normaliser is counted.
    pub scope: Scope,
    /// How micro-batches are put together.
    pub micro_batches: Combine,
    /// How ranks are put together.
    pub ranks: Combine,
    /// What a group without a supervised token contributes.
    #[serde(default)]
    pub empty: EmptyPolicy,
    /// What counts as a token.
    #[serde(default)]
    pub counting: Counting,
    /// ε of label smoothing, in `[0, 1)`: `ℓ = (1 − ε)·(−log p_y) + ε/V·Σ_c −log p_c`, PyTorch's `label_smoothing`.
    #[serde(default)]
    pub label_smoothing: f64,
    /// ζ of the z-loss, `≥ 0`: `ζ·(log Σ_c exp z_c)²` is added to each token loss (`PaLM`, Chowdhery et al. 2022, §5).
    #[serde(default)]
    pub z_loss: f64,
}

impl LossSpec {
    const fn global(reduction: Reduction) -> Self {
        Self {
            reduction,
            scope: Scope::Global,
            micro_batches: Combine::Add,
            ranks: Combine::Add,
            empty: EmptyPolicy::ZeroCounted,
            counting: Counting::Supervised,
            label_smoothing: 0.0,
            z_loss: 0.0,
        }
    }

    /// The sum of the token losses.
    #[must_use]
    pub const fn sum() -> Self {
        Self::global(Reduction::Sum)
    }

    /// The mean over all supervised tokens of the global batch, however it is split.
    #[must_use]
    pub const fn token_mean() -> Self {
        Self::global(Reduction::TokenMean)
    }

    /// The mean over all sequences of the global batch of each sequence's token mean.
    #[must_use]
    pub const fn sequence_mean() -> Self {
        Self::global(Reduction::SequenceMean)
    }

    /// The sum divided by the number of sequences.
    #[must_use]
    pub const fn batch_mean() -> Self {
        Self::global(Reduction::BatchMean)
    }

    /// The mean of the means of the micro-batches of every rank: what gradient accumulation computes when each
    /// micro-batch is averaged by itself, and ranks are averaged as data parallelism does.
    #[must_use]
    pub const fn naive_accumulated_mean() -> Self {
        Self {
            scope: Scope::MicroBatch,
            micro_batches: Combine::Average,
            ranks: Combine::Average,
            ..Self::token_mean()
        }
    }

    /// Every micro-batch's own token mean, added without dividing by the number of micro-batches: gradient accumulation
    /// with the division forgotten.
    #[must_use]
    pub const fn forgotten_division() -> Self {
        Self { scope: Scope::MicroBatch, ..Self::token_mean() }
    }

    /// The average over ranks of each rank's own token mean: what an all-reduce that averages gradients makes of ranks
    /// that each count their own tokens.
    #[must_use]
    pub const fn naive_data_parallel() -> Self {
        Self { scope: Scope::RankWindow, ranks: Combine::Average, ..Self::token_mean() }
    }

    /// The sum of each rank divided by the tokens of *all* ranks, and then averaged over ranks: a global count whose
    /// averaging all-reduce was not undone by a factor R.
    #[must_use]
    pub const fn averaging_not_undone() -> Self {
        Self { ranks: Combine::Average, ..Self::token_mean() }
    }

    /// Checks the numbers in the spec.
    ///
    /// # Errors
    /// When the label smoothing is outside `[0, 1)`, or the z-loss is negative or not finite.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(InvalidSpec::LabelSmoothing(self.label_smoothing));
        }
        if !self.z_loss.is_finite() || self.z_loss < 0.0 {
            return Err(InvalidSpec::ZLoss(self.z_loss));
        }
        Ok(())
    }
}

/// In words; what has its default is left out, so that two specs read alike only when they are.
impl fmt::Display for LossSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reduction = match self.reduction {
            Reduction::Sum => "sum",
            Reduction::TokenMean => "per-token mean",
            Reduction::SequenceMean => "per-sequence mean",
            Reduction::BatchMean => "batch mean",
        };
        let scope = match self.scope {
            Scope::MicroBatch => "each micro-batch",
            Scope::RankWindow => "each rank's window",
            Scope::Global => "the global batch",
        };
        let combine = |how| if how == Combine::Add { "added" } else { "averaged" };
        write!(
            f,
            "{reduction} over {scope}, micro-batches {}, ranks {}",
            combine(self.micro_batches),
            combine(self.ranks)
        )?;
        match self.counting {
            Counting::Supervised => {}
            Counting::BeforeShift => f.write_str(", tokens counted before the shift")?,
            Counting::AllPositions => f.write_str(", padding and ignored positions counted")?,
        }
        match self.empty {
            EmptyPolicy::ZeroCounted => {}
            EmptyPolicy::ZeroSkipped => f.write_str(", empty groups left out")?,
            EmptyPolicy::Nan => f.write_str(", empty groups NaN")?,
            EmptyPolicy::Error => f.write_str(", empty groups rejected")?,
        }
        if self.label_smoothing > 0.0 {
            write!(f, ", label smoothing {}", self.label_smoothing)?;
        }
        if self.z_loss > 0.0 {
            write!(f, ", z-loss {}", self.z_loss)?;
        }
        Ok(())
    }
}

/// A number in a [`LossSpec`] that has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSpec {
    /// Label smoothing outside `[0, 1)`.
    #[error("label smoothing {0} is outside [0, 1)")]
    LabelSmoothing(f64),
    /// A z-loss that is negative or not finite.
    #[error("z-loss factor {0} must be finite and not negative")]
    ZLoss(f64),
}
