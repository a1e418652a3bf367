//! The settings of trainers that decide what a loss is divided by, and the semantics each of them is.
//!
//! What a mode computes was read in the source of the release named with it, never in its documentation.

mod loops;
mod pretraining;
mod reinforcement;
mod rust;
#[cfg(test)]
mod tests;

use super::{batch::Batch, semantics::Semantics};
use lossproof_spec::{
    Combine, Counting, EmptyGroup, EmptyPolicy, Fraction, LossSpec, Reduction, Scope, TokenWeights,
};
use num_traits::One;

/// A release of a trainer, and the modes that were read in its source.
pub(super) struct Release {
    /// Name and version.
    pub(super) name: &'static str,
    /// Where its source is: owner, name and commit of a public repository, or its package.
    pub(super) place: &'static str,
    pub(super) modes: &'static [Mode],
}

/// A setting under which a trainer makes one gradient of token losses in one way.
#[derive(Debug)]
pub(crate) struct Mode {
    /// `trainer:setting`; the trainer's version is part of it where a newer release computes something else.
    pub(super) name: &'static str,
    /// What a loss is divided by, in the letters that `explain --modes` tells.
    pub(super) divided_by: &'static str,
    pub(super) weighing: Weighing,
    /// Where the division stands: paths in the repository with their lines.
    pub(super) source: &'static [&'static str],
    /// On which batches it is which of the lettered semantics, unless it is one of them everywhere.
    pub(super) nearest: Option<Nearest>,
    /// What has to be known of the setting; empty when nothing has.
    pub(super) note: &'static str,
    /// What is said of it, where that is something else.
    pub(super) promise: Option<Promise>,
}

/// The weights of a mode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weighing {
    pub(super) spec: LossSpec,
    /// What no spec says.
    pub(super) factor: Factor,
}

/// What the weights of a spec are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factor {
    /// Nothing: the spec says all.
    One,
    /// One over a constant number of tokens, for which the losses of the longest sequence stand here.
    PerLength,
    /// The micro-batch's share of the rank's sequences in the place of one over the number of micro-batches.
    BySequences,
}

/// The lettered semantics that a mode is on some batches.
#[derive(Debug)]
pub(super) struct Nearest {
    pub(super) semantics: Semantics,
    /// The circumstance that makes them one.
    pub(super) when: &'static str,
}

/// A statement of a trainer's documentation that its code does not keep.
#[derive(Debug)]
pub(super) struct Promise {
    /// What it speaks of, in our words.
    pub(super) says: &'static str,
    pub(super) source: &'static str,
    /// What that would weigh.
    pub(super) weighing: Weighing,
}

/// All releases, the modes of one trainer together.
pub(super) fn releases() -> impl Iterator<Item = &'static Release> {
    [reinforcement::RELEASES, loops::RELEASES, pretraining::RELEASES, rust::RELEASES].into_iter().flatten()
}

/// The mode of that name.
pub(super) fn find(name: &str) -> Option<&'static Mode> {
    releases().flat_map(|release| release.modes).find(|mode| mode.name == name)
}

impl Weighing {
    /// What a spec says and no more.
    const fn spec(spec: LossSpec) -> Self {
        Self { spec, factor: Factor::One }
    }

    /// What a spec says, divided by a constant number of tokens.
    const fn per_length(spec: LossSpec) -> Self {
        Self { spec, factor: Factor::PerLength }
    }

    /// What a spec that averages micro-batches says, but each micro-batch counted by its sequences.
    const fn by_sequences(spec: LossSpec) -> Self {
        Self { spec, factor: Factor::BySequences }
    }

    /// The lettered semantics that it is on every batch without an empty group.
    pub(super) fn lettered(self) -> Option<Semantics> {
        let spec = LossSpec { empty: EmptyPolicy::ZeroCounted, ..self.spec };
        (self.factor == Factor::One).then(|| Semantics::ALL.into_iter().find(|s| s.spec() == spec)).flatten()
    }

    /// In a few words and the letters of the semantics, as `C of each micro-batch, averaged`.
    pub(super) fn short(self) -> String {
        let counted_right = LossSpec { counting: Counting::Supervised, ..self.spec };
        let text = match (Weighing::spec(counted_right).lettered(), self.factor) {
            (Some(semantics), Factor::One) => format!("{}, {}", semantics.letter(), semantics.name()),
            (Some(semantics), Factor::PerLength) => format!("{}, divided by L", semantics.letter()),
            _ => self.in_parts(),
        };
        text + match self.spec.counting {
            Counting::Supervised => "",
            Counting::BeforeShift => ", first labels counted",
            Counting::AllPositions => ", padding counted",
        }
    }

    /// A semantics without a letter, by the letter of what is done with each part of the batch.
    fn in_parts(self) -> String {
        let LossSpec { reduction, scope, micro_batches, ranks, .. } = self.spec;
        let whole = match reduction {
            Reduction::Sum => Semantics::Sum,
            Reduction::TokenMean => Semantics::TokenMean,
            Reduction::SequenceMean => Semantics::SequenceMean,
            Reduction::BatchMean => Semantics::BatchMean,
        };
        let part = match scope {
            Scope::MicroBatch => " of each micro-batch",
            Scope::RankWindow => " of each rank",
            Scope::Global => "",
        };
        let combined = match (self.factor, micro_batches, ranks) {
            (Factor::BySequences, ..) => ", averaged by sequences",
            (_, Combine::Add, Combine::Add) => ", added",
            (_, Combine::Average, Combine::Average) => ", averaged",
            (_, Combine::Add, Combine::Average) => ", ranks averaged",
            (_, Combine::Average, Combine::Add) => ", micro-batches averaged",
        };
        let divided = if self.factor == Factor::PerLength { ", divided by L" } else { "" };
        format!("{}{part}{combined}{divided}", whole.letter())
    }

    /// The weight of a supervised token of each sequence of `batch`, zero for a sequence without one.
    ///
    /// # Errors
    /// When a mean is taken over a group without a supervised token and that is no number.
    pub(super) fn weights(self, batch: &Batch) -> Result<Vec<Fraction>, EmptyGroup> {
        let weights = TokenWeights::new(&self.spec, &batch.layout)?;
        let mut weights = weights.sequences().map(|(weight, _)| weight);
        let longest = batch.sequence_losses.most.max(1);
        let mut scaled: Vec<Fraction> = Vec::with_capacity(batch.sequences);
        for rank in batch.layout.ranks() {
            let on_rank: usize = rank.iter().map(Vec::len).sum();
            for micro_batch in rank {
                let factor = match self.factor {
                    Factor::One => Fraction::one(),
                    Factor::PerLength => ratio(1, longest),
                    Factor::BySequences => ratio(micro_batch.len() * rank.len(), on_rank),
                };
                // Neighbours mostly weigh alike, and products of big integers are dear.
                let mut previous = None;
                for weight in weights.by_ref().take(micro_batch.len()) {
                    let product = match (previous, scaled.last()) {
                        (Some(same), Some(product)) if same == weight => product.clone(),
                        _ => weight * &factor,
                    };
                    scaled.push(product);
                    previous = Some(weight);
                }
            }
        }
        Ok(scaled)
    }
}

fn ratio(numerator: usize, denominator: usize) -> Fraction {
    Fraction::new(numerator.into(), denominator.into())
}

/// What PyTorch's mean makes of a group without a supervised token: 0/0.
const fn nan_where_empty(spec: LossSpec) -> LossSpec {
    LossSpec { empty: EmptyPolicy::Nan, ..spec }
}

/// Each micro-batch reduced by itself, then averaged over the micro-batches of a rank and over ranks.
const fn averaged(reduction: Reduction) -> LossSpec {
    LossSpec { reduction, ..LossSpec::naive_accumulated_mean() }
}

/// Every predicted position counted, padding included.
const fn padding_counted(spec: LossSpec) -> LossSpec {
    LossSpec { counting: Counting::AllPositions, ..spec }
}

/// A mode that is one of the lettered semantics on every batch, of which nothing wrong is said.
const fn plain(
    name: &'static str,
    divided_by: &'static str,
    spec: LossSpec,
    source: &'static [&'static str],
) -> Mode {
    Mode { name, divided_by, weighing: Weighing::spec(spec), source, nearest: None, note: "", promise: None }
}
