//! Exact token weights: the vector `w` of `L = Σ_t w_t·ℓ_t`, and the ratio of two such vectors.

use crate::{Combine, Counting, EmptyPolicy, GlobalBatch, Layout, LossSpec, Reduction, Scope, SequenceShape};
use num_bigint::BigInt;
use num_rational::Ratio;
use num_traits::{One, ToPrimitive, Zero};
use std::fmt;

/// An exact rational number.
pub type Fraction = Ratio<BigInt>;

/// The weight of every supervised token of a batch under one loss spec, exact.
///
/// No spec tells two supervised tokens of one sequence apart, so there is one weight per sequence; a position that is
/// not supervised weighs zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenWeights {
    /// Weight and number of supervised tokens, per sequence in the canonical order.
    sequences: Vec<(Fraction, usize)>,
}

impl TokenWeights {
    /// The weights of `spec` on a batch with this layout.
    ///
    /// # Errors
    /// [`EmptyGroup`] when a mean is taken over nothing and the spec's empty policy is [`EmptyPolicy::Nan`] or
    /// [`EmptyPolicy::Error`]: then there is no `w`.
    pub fn new(spec: &LossSpec, layout: &Layout) -> Result<Self, EmptyGroup> {
        if matches!(spec.empty, EmptyPolicy::Nan | EmptyPolicy::Error) {
            reject_empty_means(spec, layout)?;
        }
        let counted = |shape: &&SequenceShape| spec.empty != EmptyPolicy::ZeroSkipped || shape.supervised > 0;
        let has_tokens = |micro_batch: &[SequenceShape]| micro_batch.iter().any(|s| s.supervised > 0);
        let number = |total: usize, non_empty: usize| match spec.empty {
            EmptyPolicy::ZeroSkipped => non_empty,
            _ => total,
        };

        let global: Vec<_> = layout.sequences().collect();
        let ranks_with_tokens = layout.ranks().iter().filter(|r| r.iter().any(|m| has_tokens(m))).count();
        let b = combine(spec.ranks, number(layout.ranks().len(), ranks_with_tokens));
        let mut sequences = Vec::with_capacity(global.len());
        for rank in layout.ranks() {
            let window: Vec<_> = rank.iter().flatten().collect();
            let with_tokens = rank.iter().filter(|m| has_tokens(m)).count();
            let a = combine(spec.micro_batches, number(rank.len(), with_tokens));
            for micro_batch in rank {
                let own: Vec<_> = micro_batch.iter().collect();
                let scope = match spec.scope {
                    Scope::MicroBatch => &own,
                    Scope::RankWindow => &window,
                    Scope::Global => &global,
                };
                let n = scope.iter().copied().filter(counted).count();
                let width = scope.iter().map(|s| s.positions).max().unwrap_or(0);
                let tokens = |shape: &SequenceShape| match spec.counting {
                    Counting::Supervised => shape.supervised,
                    Counting::BeforeShift => shape.supervised + usize::from(shape.first_label),
                    Counting::AllPositions => width - 1,
                };
                let scope_tokens: usize = scope.iter().copied().filter(counted).map(tokens).sum();
                for shape in micro_batch {
                    let normaliser = match spec.reduction {
                        Reduction::Sum => BigInt::one(),
                        Reduction::TokenMean => scope_tokens.into(),
                        Reduction::SequenceMean => BigInt::from(n) * BigInt::from(tokens(shape)),
                        Reduction::BatchMean => n.into(),
                    };
                    let weight = if shape.supervised == 0 {
                        Fraction::zero()
                    } else {
                        &a * &b / Fraction::from_integer(normaliser)
                    };
                    sequences.push((weight, shape.supervised));
                }
            }
        }
        Ok(Self { sequences })
    }

    /// Weight of each supervised token of the sequence with this index in the canonical order; zero for a sequence
    /// without a supervised token.
    ///
    /// # Panics
    /// When the batch has no such sequence.
    #[must_use]
    pub fn of_sequence(&self, index: usize) -> &Fraction {
        &self.sequences[index].0
    }

    /// The weights of all sequences, each beside its number of supervised tokens.
    pub fn sequences(&self) -> impl Iterator<Item = (&Fraction, usize)> {
        self.sequences.iter().map(|(weight, supervised)| (weight, *supervised))
    }

    /// Σ_t w_t: what the loss is when every token loss is 1.
    #[must_use]
    pub fn total(&self) -> Fraction {
        self.sequences().map(|(weight, tokens)| weight * BigInt::from(tokens)).sum()
    }

    /// `w_t` for every prediction of `batch` in the canonical order, rounded once to f64.
    ///
    /// # Panics
    /// When `batch` has another number of sequences than the layout the weights were made for.
    #[must_use]
    pub fn per_prediction(&self, batch: &GlobalBatch) -> Vec<f64> {
        let rounded: Vec<_> = self.sequences.iter().map(|(weight, _)| to_f64(weight)).collect();
        batch.predictions().map(|p| if p.supervised { rounded[p.sequence] } else { 0.0 }).collect()
    }
}

/// The nearest f64 of a weight.
pub(crate) fn to_f64(fraction: &Fraction) -> f64 {
    fraction.to_f64().expect("invariant: quotients of counts are finite")
}

fn combine(how: Combine, number: usize) -> Fraction {
    match how {
        Combine::Add => Fraction::one(),
        // With nothing to average over there is no token either, so any factor does.
        Combine::Average => Fraction::new(BigInt::one(), BigInt::from(number.max(1))),
    }
}

/// The groups a spec takes a mean over, each of which must have a supervised token.
fn reject_empty_means(spec: &LossSpec, layout: &Layout) -> Result<(), EmptyGroup> {
    let error = |group| EmptyGroup { group, nan: spec.empty == EmptyPolicy::Nan };
    match (spec.reduction, spec.scope) {
        (Reduction::Sum | Reduction::BatchMean, _) => Ok(()),
        (Reduction::SequenceMean, _) => match layout.sequences().position(|s| s.supervised == 0) {
            Some(index) => Err(error(Group::Sequence(index))),
            None => Ok(()),
        },
        (Reduction::TokenMean, Scope::MicroBatch) => {
            match layout.micro_batches().position(|m| m.iter().all(|s| s.supervised == 0)) {
                Some(index) => Err(error(Group::MicroBatch(index))),
                None => Ok(()),
            }
        }
        (Reduction::TokenMean, Scope::RankWindow) => {
            match layout.ranks().iter().position(|r| r.iter().flatten().all(|s| s.supervised == 0)) {
                Some(index) => Err(error(Group::Rank(index))),
                None => Ok(()),
            }
        }
        (Reduction::TokenMean, Scope::Global) if layout.supervised() == 0 => Err(error(Group::Batch)),
        (Reduction::TokenMean, Scope::Global) => Ok(()),
    }
}

/// A part of a global batch, by its index in the canonical order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A sequence.
    Sequence(usize),
    /// A micro-batch, counted over all ranks.
    MicroBatch(usize),
    /// A rank.
    Rank(usize),
    /// The whole global batch.
    Batch,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sequence(index) => write!(f, "sequence {index}"),
            Self::MicroBatch(index) => write!(f, "micro-batch {index}"),
            Self::Rank(index) => write!(f, "rank {index}"),
            Self::Batch => f.write_str("the global batch"),
        }
    }
}

/// A mean was to be taken over a group that has no supervised token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{group} has no supervised token, so its mean is {}: mask less, or declare an empty policy of zero",
    if *nan { "NaN" } else { "rejected by the empty policy `error`" }
)]
pub struct EmptyGroup {
    /// The group.
    pub group: Group,
    /// Whether the declared policy makes the loss NaN ([`EmptyPolicy::Nan`]) rather than an error.
    pub nan: bool,
}

/// How the gradients of two specs compare on one batch: token by token, the ratio of their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightRatio {
    /// No token is supervised, so there is nothing to compare.
    Nothing,
    /// One factor for every token: the gradients are parallel, their ratio is this number.
    Uniform(Fraction),
    /// Different factors for different tokens: no scalar turns one gradient into the other.
    Varies {
        /// Smallest ratio of any token.
        min: Fraction,
        /// Largest ratio of any token.
        max: Fraction,
    },
}

impl WeightRatio {
    /// `numerator / denominator`, over the tokens supervised in both.
    ///
    /// # Panics
    /// When the two were made for batches with different numbers of sequences.
    #[must_use]
    pub fn between(numerator: &TokenWeights, denominator: &TokenWeights) -> Self {
        assert_eq!(numerator.sequences.len(), denominator.sequences.len(), "weights of two different batches");
        let ratios = numerator.sequences.iter().zip(&denominator.sequences);
        let ratios = ratios.filter(|(n, d)| n.1 > 0 && d.1 > 0).map(|(n, d)| &n.0 / &d.0);
        let mut extremes: Option<(Fraction, Fraction)> = None;
        for ratio in ratios {
            extremes = Some(match extremes {
                None => (ratio.clone(), ratio),
                Some((min, max)) => (min.min(ratio.clone()), max.max(ratio)),
            });
        }
        match extremes {
            None => Self::Nothing,
            Some((min, max)) if min == max => Self::Uniform(min),
            Some((min, max)) => Self::Varies { min, max },
        }
    }

    /// Whether the two specs are one semantics on this batch.
    #[must_use]
    pub fn is_one(&self) -> bool {
        matches!(self, Self::Uniform(ratio) if ratio.is_one())
    }
}
