//! Which loss semantics a trainer says it has, and which others are the same inside its limits.

use crate::{Count, Limits};
use lossproof_spec::{Counting, Layout, LossSpec, SequenceShape, TokenWeights};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Which loss semantics a trainer says it has.
///
/// Before [`Subject::configure`](crate::Subject::configure) is called, [`first`](Self::first) is in force.
#[derive(Clone, Debug, PartialEq)]
pub enum Claims {
    /// One loss, as almost every trainer has.
    One(LossSpec),
    /// Several, between which [`Subject::configure`](crate::Subject::configure) chooses.
    Several(Vec<LossSpec>),
    /// Every semantics of the calculus that counts supervised tokens.
    Any,
}

impl Claims {
    /// The semantics in force before another is chosen: the first of those claimed; of [`Any`](Self::Any),
    /// and of an empty list, the global per-token mean.
    #[must_use]
    pub fn first(&self) -> LossSpec {
        self.listed().first().copied().unwrap_or_else(LossSpec::token_mean)
    }

    /// Those that are claimed by name: none of [`Any`](Self::Any).
    #[must_use]
    pub fn listed(&self) -> &[LossSpec] {
        match self {
            Self::One(spec) => std::slice::from_ref(spec),
            Self::Several(specs) => specs,
            Self::Any => &[],
        }
    }

    /// The claim that this semantics is, inside the limits: itself, or one that gives every token of every
    /// batch inside them the same weight.
    #[must_use]
    pub fn claim_of(&self, spec: &LossSpec, limits: &Limits) -> Option<LossSpec> {
        if matches!(self, Self::Any) {
            let has = spec.counting == Counting::Supervised && spec.validate().is_ok();
            return has.then_some(*spec);
        }
        let same = self.listed().iter().find(|claim| *claim == spec);
        same.or_else(|| self.listed().iter().find(|claim| equivalent(claim, spec, limits))).copied()
    }
}

/// Whether two semantics give every token the same weight on every batch inside the limits, and have no
/// weights on the same batches.
///
/// A weight is a rational function of the counts of a batch: supervised tokens, positions and sequences of
/// each group, micro-batches and ranks. Two that differ anywhere inside the limits differ on most batches of
/// unequal counts, or where a group is empty; so some batches of each kind decide.
#[must_use]
pub fn equivalent(one: &LossSpec, other: &LossSpec, limits: &Limits) -> bool {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    if !same(one.label_smoothing, other.label_smoothing) || !same(one.z_loss, other.z_loss) {
        return false;
    }
    (0..WITNESSES).filter_map(|number| Witness { limits, number }.layout()).all(|layout| {
        match (TokenWeights::new(one, &layout), TokenWeights::new(other, &layout)) {
            (Ok(one), Ok(other)) => one.sequences().eq(other.sequences()),
            (Err(_), Err(_)) => one.empty == other.empty,
            _ => false,
        }
    })
}

/// Batches that are looked at.
const WITNESSES: usize = 256;

/// Different counts that a witness chooses from: the smallest that the limits allow.
const CHOICES: usize = 4;

/// A batch inside the limits, made of its number: a quarter of them are even, the parts of all others are
/// unequal, and some groups have no supervised token.
struct Witness<'a> {
    limits: &'a Limits,
    number: usize,
}

impl Witness<'_> {
    /// One of so many, independent of what is drawn elsewhere.
    fn draw(&self, choices: usize, place: [usize; 4]) -> usize {
        let mut hasher = DefaultHasher::new();
        (self.number, place).hash(&mut hasher);
        usize::try_from(hasher.finish() % choices as u64).unwrap_or(0)
    }

    /// One of the smallest few counts.
    fn count(&self, count: Count, place: [usize; 4]) -> usize {
        let choices = count.most.saturating_sub(count.least).min(CHOICES - 1) + 1;
        let even = self.number.is_multiple_of(4);
        count.least + self.draw(choices, if even { [0, 0, 0, place[3]] } else { place })
    }

    fn layout(&self) -> Option<Layout> {
        let mut ranks = Vec::new();
        for rank in 0..self.count(self.limits.ranks, [0, 0, 0, 0]) {
            let nothing_in_rank = self.draw(6, [rank, 0, 0, 1]) == 0;
            let mut window = Vec::new();
            for micro_batch in 0..self.count(self.limits.micro_batches, [rank, 0, 0, 2]) {
                let nothing = nothing_in_rank || self.draw(6, [rank, micro_batch, 0, 3]) == 0;
                let mut shapes = Vec::new();
                for sequence in 0..self.count(self.limits.sequences, [rank, micro_batch, 0, 4]) {
                    shapes.push(self.shape([rank, micro_batch, sequence], nothing));
                }
                window.push(shapes);
            }
            ranks.push(window);
        }
        Layout::new(ranks).ok()
    }

    fn shape(&self, [rank, micro_batch, sequence]: [usize; 3], nothing: bool) -> SequenceShape {
        let place = |what| [rank, micro_batch, sequence, what];
        let full = SequenceShape::full(self.count(self.limits.lengths, place(5)));
        if !self.limits.ignore_index || self.number.is_multiple_of(4) {
            return full;
        }
        let supervised = if nothing { 0 } else { self.draw(full.supervised + 1, place(6)) };
        SequenceShape { supervised, first_label: self.draw(2, place(7)) == 0, ..full }
    }
}
