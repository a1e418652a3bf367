//! Exact token weights: the vector `w` of `L = Σ_t w_t·ℓ_t`, and the ratio of two such vectors.

use crate::{
    Combine, Counting, EmptyPolicy, GlobalBatch, Layout, LossSpec, Prediction, Reduction, Scope,
    SequenceShape,
};
use num_bigint::BigInt;
use num_rational::Ratio;
use num_traits::{One, ToPrimitive, Zero};
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

/// An exact rational number.
pub type Fraction = Ratio<BigInt>;

/// The weight of every supervised token of a batch under one loss spec, exact.
///
/// No spec tells two supervised tokens of one sequence apart, so there is one weight per sequence; a position that is
/// not supervised weighs zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenWeights {
    /// The distinct weights in the order in which they appear, zero first. A large batch has few.
    distinct: Vec<Fraction>,
    /// Index into `distinct` and number of supervised tokens, per sequence in the canonical order.
    sequences: Vec<(usize, usize)>,
}

impl TokenWeights {
    /// The weights of `spec` on a batch with this layout.
    ///
    /// # Errors
    /// [`EmptyGroup`] when a mean is taken over nothing and the spec's empty policy is [`EmptyPolicy::Nan`] or
    /// [`EmptyPolicy::Error`]: then there is no `w`.
    pub fn new(spec: &LossSpec, layout: &Layout) -> Result<Self, EmptyGroup> {
        let has_tokens = |micro_batch: &[SequenceShape]| micro_batch.iter().any(|s| s.supervised > 0);
        let global = Count::of(spec, layout.sequences());
        let b =
            divisor(spec.ranks, spec.empty, layout.ranks().iter().map(|r| r.iter().any(|m| has_tokens(m))));
        let mut weights = Self { distinct: vec![Fraction::zero()], sequences: Vec::new() };
        let mut known = HashMap::new();
        let mut micro_batch_index = 0;
        for (rank_index, rank) in layout.ranks().iter().enumerate() {
            let window = Count::of(spec, rank.iter().flatten());
            let a = divisor(spec.micro_batches, spec.empty, rank.iter().map(|m| has_tokens(m)));
            for micro_batch in rank {
                let (scope, group) = match spec.scope {
                    Scope::MicroBatch => (Count::of(spec, micro_batch), Group::MicroBatch(micro_batch_index)),
                    Scope::RankWindow => (window, Group::Rank(rank_index)),
                    Scope::Global => (global, Group::Batch),
                };
                if spec.reduction == Reduction::TokenMean && scope.tokens == 0 {
                    reject(spec.empty, group)?;
                }
                micro_batch_index += 1;
                let mut previous = None;
                for shape in micro_batch {
                    let tokens = tokens(spec.counting, shape, scope.width);
                    if spec.reduction == Reduction::SequenceMean && tokens == 0 {
                        reject(spec.empty, Group::Sequence(weights.sequences.len()))?;
                    }
                    let index = match previous {
                        _ if shape.supervised == 0 => 0,
                        Some((same, index)) if same == tokens => index,
                        _ => {
                            let denominator = BigInt::from(a) * b * scope.normaliser(spec.reduction, tokens);
                            *known.entry(denominator).or_insert_with_key(|denominator| {
                                weights.distinct.push(Fraction::new(BigInt::one(), denominator.clone()));
                                weights.distinct.len() - 1
                            })
                        }
                    };
                    if shape.supervised > 0 {
                        previous = Some((tokens, index));
                    }
                    weights.sequences.push((index, shape.supervised));
                }
            }
        }
        Ok(weights)
    }

    /// Weight of each supervised token of the sequence with this index in the canonical order; zero for a sequence
    /// without a supervised token.
    ///
    /// # Panics
    /// When the batch has no such sequence.
    #[must_use]
    pub fn of_sequence(&self, index: usize) -> &Fraction {
        &self.distinct[self.sequences[index].0]
    }

    /// The weights of all sequences, each beside its number of supervised tokens.
    pub fn sequences(&self) -> impl Iterator<Item = (&Fraction, usize)> {
        self.sequences.iter().map(|&(index, supervised)| (&self.distinct[index], supervised))
    }

    /// `Σ_t w_t`: what the loss is when every token loss is 1.
    #[must_use]
    pub fn total(&self) -> Fraction {
        let mut tokens = vec![0_usize; self.distinct.len()];
        for &(index, supervised) in &self.sequences {
            tokens[index] += supervised;
        }
        self.distinct.iter().zip(tokens).map(|(weight, tokens)| weight * BigInt::from(tokens)).sum()
    }

    /// `w_t` for every prediction of `batch` in the canonical order, rounded once to f64.
    ///
    /// # Panics
    /// When `batch` has another number of sequences than the layout the weights were made for.
    #[must_use]
    pub fn per_prediction(&self, batch: &GlobalBatch) -> Vec<f64> {
        assert_eq!(self.sequences.len(), batch.sequences().count(), "weights of another batch");
        let rounded: Vec<_> = self.distinct.iter().map(to_f64).collect();
        let weight = |p: Prediction| if p.supervised { rounded[self.sequences[p.sequence].0] } else { 0.0 };
        batch.predictions().map(weight).collect()
    }
}

/// What is counted over the scope of a normaliser.
#[derive(Clone, Copy)]
struct Count {
    /// Sequences, without the empty ones where the empty policy skips those.
    sequences: usize,
    /// Tokens of these sequences. Wider than `usize`: padding may be counted.
    tokens: u128,
    /// Positions of the longest sequence.
    width: usize,
}

impl Count {
    fn of<'a>(spec: &LossSpec, shapes: impl IntoIterator<Item = &'a SequenceShape>) -> Self {
        let mut count = Self { sequences: 0, tokens: 0, width: 0 };
        for shape in shapes {
            count.width = count.width.max(shape.positions);
            if shape.supervised > 0 || spec.empty != EmptyPolicy::ZeroSkipped {
                count.sequences += 1;
                count.tokens += match spec.counting {
                    Counting::AllPositions => 0,
                    own => tokens(own, shape, 0),
                };
            }
        }
        if spec.counting == Counting::AllPositions {
            // The width is known only now.
            count.tokens = count.sequences as u128 * count.width.saturating_sub(1) as u128;
        }
        count
    }

    /// `D`, for a token of a sequence that counts `tokens` itself.
    fn normaliser(self, reduction: Reduction, tokens: u128) -> BigInt {
        match reduction {
            Reduction::Sum => BigInt::one(),
            Reduction::TokenMean => self.tokens.into(),
            Reduction::SequenceMean => BigInt::from(self.sequences) * tokens,
            Reduction::BatchMean => self.sequences.into(),
        }
    }
}

/// What a sequence in a scope padded to `width` positions counts.
fn tokens(counting: Counting, shape: &SequenceShape, width: usize) -> u128 {
    let tokens = match counting {
        Counting::Supervised => shape.supervised,
        Counting::BeforeShift => shape.supervised + usize::from(shape.first_label),
        Counting::AllPositions => width - 1,
    };
    tokens as u128
}

/// What the parts of a group are divided by when they are put together, `has_tokens` telling for each whether it is
/// empty.
fn divisor(how: Combine, empty: EmptyPolicy, has_tokens: impl Iterator<Item = bool>) -> usize {
    match how {
        Combine::Add => 1,
        // With nothing to average over there is no token either, so any divisor does.
        Combine::Average => {
            has_tokens.filter(|&has_tokens| has_tokens || empty != EmptyPolicy::ZeroSkipped).count().max(1)
        }
    }
}

/// Answers to a mean over `group`, which counts no token.
fn reject(empty: EmptyPolicy, group: Group) -> Result<(), EmptyGroup> {
    match empty {
        EmptyPolicy::ZeroCounted | EmptyPolicy::ZeroSkipped => Ok(()),
        EmptyPolicy::Nan => Err(EmptyGroup { group, nan: true }),
        EmptyPolicy::Error => Err(EmptyGroup { group, nan: false }),
    }
}

/// The nearest f64 of a weight.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "the invariant holds")]
pub fn to_f64(fraction: &Fraction) -> f64 {
    fraction.to_f64().expect("invariant: quotients of counts are finite")
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
        assert_eq!(
            numerator.sequences.len(),
            denominator.sequences.len(),
            "weights of two different batches"
        );
        let both = numerator.sequences.iter().zip(&denominator.sequences);
        let both = both.filter(|(n, d)| n.1 > 0 && d.1 > 0).map(|(n, d)| (n.0, d.0));
        let distinct: BTreeSet<_> = both.collect();
        let ratios = distinct.into_iter().map(|(n, d)| &numerator.distinct[n] / &denominator.distinct[d]);
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
