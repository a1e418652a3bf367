//! Which clauses of `docs/SPEC.md` follow from what a trainer was found to compute, and which are broken by
//! it.
//!
//! A clause about reductions, masks, accumulation or ranks is a statement about weights, so the calculus
//! decides it: each is a test of a loss spec on a layout and on what the clause makes of that layout (split
//! otherwise, padded, duplicated). Clauses that compare several steps, several reductions of one trainer, or
//! losses with gradients are not here: no single weight vector decides them.

use super::spec_classes::{SpecOutcome, numberless, outcome};
use lossproof_spec::{
    CLAUSES, Clause, Combine, Counting, Fraction, Layout, LossSpec, Reduction, Scope, SequenceShape,
    TokenWeights,
};
use num_traits::One;

/// What follows from a found semantics for the clauses that weights decide and that the declared semantics
/// keeps on this batch, in the order of [`CLAUSES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consequences {
    /// Broken.
    pub violated: Vec<&'static Clause>,
    /// Kept.
    pub satisfied: Vec<&'static Clause>,
    /// Broken by some of the semantics that the measurement allows and kept by others, or by a semantics not
    /// known.
    pub open: Vec<&'static Clause>,
}

/// What a clause is decided by.
pub(super) struct WeightEvidence<'a> {
    pub(super) layout: &'a Layout,
    pub(super) declared: &'a LossSpec,
    /// Whether the weights may be the declared ones, token by token.
    pub(super) as_declared: bool,
    /// Whether an ignored position has a weight.
    pub(super) ignored_weigh: bool,
    /// Every loss spec that the trainer may compute, given the measurement; none when it computes no known
    /// one.
    pub(super) found: &'a [LossSpec],
}

/// Whether a clause is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
    /// The clause does not speak of this semantics or of this layout.
    Silent,
}

impl From<bool> for Kept {
    fn from(kept: bool) -> Self {
        if kept { Self::Yes } else { Self::No }
    }
}

/// Whether a loss spec keeps a clause on a layout, when another was declared.
type ClauseTest = fn(&LossSpec, &LossSpec, &Layout) -> Kept;

/// How a clause is decided.
enum DecidedBy {
    /// It says what the declared semantics weighs.
    Weights(fn() -> LossSpec),
    /// It says that ignored positions have no part in the loss, which the test completes.
    Mask(ClauseTest),
    /// By the semantics found.
    Semantics(ClauseTest),
}

const DECIDED: &[(&str, DecidedBy)] = &[
    ("2.1", DecidedBy::Weights(LossSpec::sum)),
    ("2.2", DecidedBy::Weights(LossSpec::token_mean)),
    ("2.3", DecidedBy::Weights(LossSpec::sequence_mean)),
    ("2.4", DecidedBy::Weights(LossSpec::batch_mean)),
    ("2.5", DecidedBy::Weights(LossSpec::naive_accumulated_mean)),
    ("2.6", DecidedBy::Semantics(divides_by_micro_batches)),
    ("2.7", DecidedBy::Semantics(counts_over_ranks)),
    ("2.8", DecidedBy::Semantics(averaging_undone)),
    ("2.9", DecidedBy::Semantics(counts_supervised)),
    ("2.12", DecidedBy::Semantics(duplicates)),
    ("2.13", DecidedBy::Semantics(empty_policy)),
    ("3.1", DecidedBy::Mask(ignored_do_not_count)),
    ("3.2", DecidedBy::Semantics(padded_on_the_right)),
    ("3.3", DecidedBy::Semantics(padded_on_the_left)),
    ("3.4", DecidedBy::Semantics(nothing_supervised)),
    ("3.5", DecidedBy::Mask(prompts_do_not_count)),
    ("4.1", DecidedBy::Semantics(split)),
    ("4.2", DecidedBy::Semantics(order)),
    ("4.3", DecidedBy::Weights(LossSpec::naive_accumulated_mean)),
    ("5.2", DecidedBy::Semantics(distribution)),
    ("5.3", DecidedBy::Weights(LossSpec::naive_data_parallel)),
    ("5.4", DecidedBy::Semantics(rank_order)),
    ("5.5", DecidedBy::Semantics(replicated)),
];

impl Consequences {
    pub(super) fn of(evidence: &WeightEvidence<'_>) -> Self {
        let mut consequences = Self::default();
        for (id, decided) in DECIDED {
            let clause = CLAUSES.iter().find(|clause| clause.id == *id).expect("invariant: a clause that is");
            let list = match evidence.decide(decided) {
                ClauseAnswer::NotConcerned => continue,
                ClauseAnswer::Violated => &mut consequences.violated,
                ClauseAnswer::Satisfied => &mut consequences.satisfied,
                ClauseAnswer::Open => &mut consequences.open,
            };
            list.push(clause);
        }
        consequences
    }
}

/// What follows for a clause.
enum ClauseAnswer {
    Violated,
    Satisfied,
    Open,
    NotConcerned,
}

impl WeightEvidence<'_> {
    fn decide(&self, decided: &DecidedBy) -> ClauseAnswer {
        match decided {
            DecidedBy::Weights(preset) => match (is(self.declared, &preset()), self.as_declared) {
                (false, _) => ClauseAnswer::NotConcerned,
                (true, false) => ClauseAnswer::Violated,
                (true, true) if self.only_declared() => ClauseAnswer::Satisfied,
                (true, true) => ClauseAnswer::Open,
            },
            DecidedBy::Mask(test) => {
                let concerned = test(self.declared, self.declared, self.layout) == Kept::Yes;
                if concerned && self.ignored_weigh {
                    ClauseAnswer::Violated
                } else {
                    self.by_semantics(*test)
                }
            }
            DecidedBy::Semantics(test) => self.by_semantics(*test),
        }
    }

    /// Whether nothing was found that weighs otherwise than declared.
    fn only_declared(&self) -> bool {
        let declared = outcome(&numberless(self.declared), self.layout);
        self.found.iter().all(|found| outcome(found, self.layout) == declared)
    }

    /// A clause that the declared semantics itself does not keep on this layout is none of its consequences.
    fn by_semantics(&self, test: ClauseTest) -> ClauseAnswer {
        if test(self.declared, self.declared, self.layout) != Kept::Yes {
            return ClauseAnswer::NotConcerned;
        }
        if self.found.is_empty() {
            return ClauseAnswer::Open;
        }
        let answers: Vec<Kept> =
            self.found.iter().map(|found| test(found, self.declared, self.layout)).collect();
        match (answers.contains(&Kept::Yes), answers.contains(&Kept::No)) {
            (true, true) => ClauseAnswer::Open,
            (true, false) => ClauseAnswer::Satisfied,
            (false, true) => ClauseAnswer::Violated,
            (false, false) => ClauseAnswer::NotConcerned,
        }
    }
}

/// Whether `spec` is `preset` but for what it counts and its empty policy, which are switches.
fn is(spec: &LossSpec, preset: &LossSpec) -> bool {
    let scoped = spec.reduction == Reduction::Sum || spec.scope == preset.scope;
    let combined = (spec.micro_batches, spec.ranks) == (preset.micro_batches, preset.ranks);
    spec.reduction == preset.reduction && scoped && combined
}

/// The spec `like` counts tokens and treats empty groups.
fn like(like: &LossSpec, preset: LossSpec) -> LossSpec {
    LossSpec { counting: like.counting, empty: like.empty, ..preset }
}

fn divides_by_micro_batches(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    let of = |spec| outcome(&like(found, spec), layout);
    let forgotten = of(LossSpec::forgotten_division());
    let tells = forgotten != of(LossSpec::naive_accumulated_mean());
    Kept::from(!(tells && outcome(found, layout) == forgotten))
}

fn counts_over_ranks(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    let of = |spec| outcome(&like(found, spec), layout);
    let naive = of(LossSpec::naive_data_parallel());
    let tells = layout.ranks().len() > 1 && naive != of(LossSpec::token_mean());
    if tells && outcome(found, layout) == naive {
        Kept::No
    } else if found.scope == Scope::MicroBatch && found.ranks == Combine::Average {
        // What is averaged was divided by less than a rank's tokens.
        Kept::Silent
    } else {
        Kept::Yes
    }
}

fn averaging_undone(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    let divides_by_all = found.scope == Scope::Global && found.reduction != Reduction::Sum;
    if divides_by_all && layout.ranks().len() > 1 {
        Kept::from(found.ranks == Combine::Add)
    } else {
        Kept::Silent
    }
}

fn counts_supervised(found: &LossSpec, _: &LossSpec, _: &Layout) -> Kept {
    let counts = matches!(found.reduction, Reduction::TokenMean | Reduction::SequenceMean);
    if counts { Kept::from(found.counting == Counting::Supervised) } else { Kept::Silent }
}

fn duplicates(found: &LossSpec, declared: &LossSpec, layout: &Layout) -> Kept {
    let twice = |micro_batch: &Vec<Indexed>| micro_batch.iter().flat_map(|&s| [s, s]).collect();
    let doubled = map_micro_batches(indexed(layout), twice);
    let factor = if declared.reduction == Reduction::Sum { one() } else { one() / whole(2) };
    Kept::from(weighs(found, layout, &doubled, &factor))
}

fn empty_policy(found: &LossSpec, declared: &LossSpec, layout: &Layout) -> Kept {
    let some_empty = layout.sequences().any(|s| s.supervised == 0);
    if !some_empty {
        return Kept::Silent;
    }
    let by_declared = LossSpec { empty: declared.empty, ..*found };
    Kept::from(outcome(found, layout) == outcome(&by_declared, layout))
}

/// The layout without its ignored positions.
fn without_ignored(layout: &Layout) -> Option<Layout> {
    let any = layout.sequences().any(|s| s.supervised < s.positions - 1);
    any.then(|| with_shapes(layout, |s| SequenceShape { positions: s.supervised + 1, ..s }))
}

fn ignored_do_not_count(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    let without = without_ignored(layout);
    without.map_or(Kept::Silent, |without| Kept::from(outcome(found, &without) == outcome(found, layout)))
}

fn prompts_do_not_count(found: &LossSpec, declared: &LossSpec, layout: &Layout) -> Kept {
    let mean = matches!(declared.reduction, Reduction::TokenMean | Reduction::SequenceMean);
    if mean { ignored_do_not_count(found, declared, layout) } else { Kept::Silent }
}

fn padded_on_the_right(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    let padded = with_shapes(layout, |s| SequenceShape { positions: s.positions + 1, ..s });
    Kept::from(outcome(found, &padded) == outcome(found, layout))
}

fn padded_on_the_left(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    // What was the first label now follows padding, from which nothing is predicted: it is ignored.
    let padded =
        with_shapes(layout, |s| SequenceShape { positions: s.positions + 1, first_label: false, ..s });
    Kept::from(outcome(found, &padded) == outcome(found, layout))
}

fn nothing_supervised(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    let ignored = with_shapes(layout, |s| SequenceShape { supervised: 0, ..s });
    Kept::from(outcome(found, &ignored).is_ok())
}

fn split(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    let ranks = indexed(layout);
    let merged = ranks.iter().map(|rank| vec![rank.concat()]).collect();
    let apart = ranks.iter().map(|rank| rank.concat().into_iter().map(|s| vec![s]).collect()).collect();
    Kept::from(weighs(found, layout, &merged, &one()) && weighs(found, layout, &apart, &one()))
}

fn order(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    let backwards = |micro_batch: &Vec<Indexed>| micro_batch.iter().rev().copied().collect();
    let mut reversed = map_micro_batches(indexed(layout), backwards);
    for rank in &mut reversed {
        rank.reverse();
    }
    Kept::from(weighs(found, layout, &reversed, &one()))
}

fn distribution(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    let sequences = indexed(layout).concat().concat();
    let apart = sequences.iter().map(|&s| vec![vec![s]]).collect();
    let together = vec![vec![sequences]];
    Kept::from(weighs(found, layout, &together, &one()) && weighs(found, layout, &apart, &one()))
}

fn rank_order(found: &LossSpec, _: &LossSpec, layout: &Layout) -> Kept {
    let mut ranks = indexed(layout);
    ranks.reverse();
    Kept::from(weighs(found, layout, &ranks, &one()))
}

fn replicated(found: &LossSpec, declared: &LossSpec, layout: &Layout) -> Kept {
    let first = layout.ranks()[0].clone();
    let single = Layout::new(vec![first]).expect("invariant: a part of a layout is one");
    let rank = indexed(&single);
    let twice = [rank.clone(), rank].concat();
    let factor = if declared.reduction == Reduction::Sum { one() } else { one() / whole(2) };
    Kept::from(weighs(found, &single, &twice, &factor))
}

/// A sequence's counts beside its index in the layout it came from.
type Indexed = (usize, SequenceShape);
/// Ranks × micro-batches × sequences.
type Groups = Vec<Vec<Vec<Indexed>>>;

fn indexed(layout: &Layout) -> Groups {
    let mut index = 0..;
    let mut number = |s: &SequenceShape| (index.next().unwrap_or(usize::MAX), *s);
    let ranks = layout.ranks().iter();
    ranks.map(|r| r.iter().map(|m| m.iter().map(&mut number).collect()).collect()).collect()
}

fn map_micro_batches(ranks: Groups, change: impl Fn(&Vec<Indexed>) -> Vec<Indexed>) -> Groups {
    ranks.into_iter().map(|rank| rank.iter().map(&change).collect()).collect()
}

fn with_shapes(layout: &Layout, mut change: impl FnMut(SequenceShape) -> SequenceShape) -> Layout {
    let groups = indexed(layout);
    let changed = groups
        .into_iter()
        .map(|r| r.into_iter().map(|m| m.into_iter().map(|(_, s)| change(s)).collect()).collect())
        .collect();
    Layout::new(changed).expect("invariant: sequences stay longer than what they supervise")
}

/// Whether each token weighs `factor` times as much in `groups` as in the `layout` they were made of.
fn weighs(spec: &LossSpec, layout: &Layout, groups: &Groups, factor: &Fraction) -> bool {
    let shapes = |m: &Vec<Indexed>| m.iter().map(|(_, shape)| *shape).collect();
    let regrouped = groups.iter().map(|rank| rank.iter().map(shapes).collect()).collect();
    let Ok(regrouped) = Layout::new(regrouped) else { return false };
    let spec = numberless(spec);
    let (before, after): (SpecOutcome, SpecOutcome) = (outcome(&spec, layout), outcome(&spec, &regrouped));
    let same = |before: &TokenWeights, after: &TokenWeights| {
        let origins = groups.iter().flatten().flatten().map(|(index, _)| *index);
        origins
            .zip(after.sequences())
            .all(|(index, (weight, _))| before.of_sequence(index) * factor == *weight)
    };
    match (&before, &after) {
        (Ok(before), Ok(after)) => same(before, after),
        (before, after) => before == after,
    }
}

fn one() -> Fraction {
    Fraction::one()
}

fn whole(count: usize) -> Fraction {
    Fraction::from_integer(count.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::EmptyPolicy;

    #[test]
    fn every_clause_that_is_decided_exists_and_stands_in_order() {
        let places: Vec<_> =
            DECIDED.iter().map(|(id, _)| CLAUSES.iter().position(|clause| clause.id == *id)).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(places.is_sorted());
    }

    #[test]
    fn a_policy_is_judged_by_what_it_makes_of_the_batch() {
        let empty = SequenceShape { supervised: 0, ..SequenceShape::full(3) };
        let layout = Layout::new(vec![vec![vec![SequenceShape::full(4), empty]]]).unwrap();
        let skipped = LossSpec { empty: EmptyPolicy::ZeroSkipped, ..LossSpec::sequence_mean() };
        assert_eq!(empty_policy(&skipped, &LossSpec::sequence_mean(), &layout), Kept::No);
        // The token mean over all tokens sees no empty group.
        let skipped = LossSpec { empty: EmptyPolicy::ZeroSkipped, ..LossSpec::token_mean() };
        assert_eq!(empty_policy(&skipped, &LossSpec::token_mean(), &layout), Kept::Yes);
    }
}
