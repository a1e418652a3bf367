//! Every case is one the subject takes.

use crate::{limits, runner};
use lossproof_cases::{
    Case,
    strategies::{Size, case},
};
use lossproof_spec::LossSpec;
use lossproof_subject::{Claims, Count, Limits};
use proptest::strategy::{Strategy, ValueTree};
use std::ops::RangeInclusive;

fn subjects() -> impl Strategy<Value = Limits> {
    let flags = proptest::array::uniform3(proptest::bool::ANY);
    let counts = (count(4), count(4), count(3));
    (1..9_usize, count(30), flags, counts).prop_map(|(vocabulary, lengths, flags, counts)| {
        let [fixed_length, ignore_index, segments] = flags;
        let (sequences, micro_batches, ranks) = counts;
        let positions = lengths.most;
        let lengths = if fixed_length { Count::exactly(positions) } else { lengths };
        Limits {
            vocabulary,
            positions,
            lengths,
            ignore_index,
            free_labels: segments,
            segments,
            sequences,
            micro_batches,
            ranks,
        }
    })
}

fn count(most: usize) -> impl Strategy<Value = Count> {
    (1..=most, 1..=most).prop_map(|(a, b)| Count { least: a.min(b), most: a.max(b) })
}

fn sizes() -> impl Strategy<Value = Size> {
    let range = |most: usize| (1..=most, 1..=most).prop_map(|(a, b)| a.min(b)..=a.max(b));
    (range(4), range(5), range(6), range(24)).prop_map(|(ranks, micro_batches, sequences, positions)| Size {
        ranks,
        micro_batches,
        sequences,
        positions,
    })
}

fn has_size(case: &Case, size: &Size, limits: &Limits) -> bool {
    let within = |range: &RangeInclusive<usize>, takes: Count, count: usize| {
        let nearest = |bound: usize| bound.clamp(takes.least, takes.most);
        (nearest(*range.start())..=nearest(*range.end())).contains(&count)
    };
    let ranks = case.batch.ranks();
    let mut micro_batches = case.batch.micro_batches();
    within(&size.ranks, limits.ranks, ranks.len())
        && ranks.iter().all(|r| within(&size.micro_batches, limits.micro_batches, r.micro_batches().len()))
        && micro_batches.all(|m| within(&size.sequences, limits.sequences, m.sequences().len()))
        && case.batch.sequences().all(|s| within(&size.positions, limits.lengths, s.len()))
}

/// Every batch drawn, and every batch on the way to a smaller one.
#[test]
fn every_case_is_one_the_subject_takes() {
    let mut runner = runner(1);
    for _ in 0..400 {
        let limits = subjects().new_tree(&mut runner).unwrap().current();
        let size = sizes().new_tree(&mut runner).unwrap().current();
        let mut tree = case(&limits, &Claims::Any, size.clone()).new_tree(&mut runner).unwrap();
        for step in 0..100 {
            let case = tree.current();
            limits.check(&case.batch).unwrap_or_else(|error| panic!("{limits:?}: {error} in {case:?}"));
            case.validate().unwrap();
            assert!(has_size(&case, &size, &limits), "{size:?} {limits:?} {case:?}");
            // Any pattern of failing and passing.
            let failed = step % 7 % 3 == 0;
            if !(if failed { tree.simplify() } else { tree.complicate() }) {
                break;
            }
        }
    }
}

#[test]
fn limits_win_over_the_size() {
    let (ranks, lengths) = (Count::exactly(5), Count::exactly(30));
    let limits = Limits { ranks, lengths, positions: 30, ..limits() };
    let size = Size { ranks: 2..=4, ..Size::default() };
    let case = case(&limits, &Claims::Any, size).new_tree(&mut runner(2)).unwrap().current();
    assert_eq!(case.batch.ranks().len(), 5);
    assert!(case.batch.sequences().all(|sequence| sequence.len() == 30));
}

/// Also on the way to a smaller one.
#[test]
fn every_case_is_under_a_claimed_spec() {
    let claimed =
        vec![LossSpec::sum(), LossSpec { label_smoothing: 0.1, ..LossSpec::naive_accumulated_mean() }];
    let claims = Claims::Several(claimed.clone());
    let mut runner = runner(6);
    let mut seen = [0, 0];
    for _ in 0..40 {
        let mut tree = case(&limits(), &claims, Size::default()).new_tree(&mut runner).unwrap();
        loop {
            let spec = tree.current().spec;
            let index = claimed.iter().position(|claim| *claim == spec);
            seen[index.unwrap_or_else(|| panic!("{spec} is not claimed"))] += 1;
            if !tree.simplify() {
                break;
            }
        }
    }
    assert!(seen.iter().all(|&seen| seen > 0), "{seen:?}");
}

#[test]
fn where_nothing_fits_the_reason_is_given() {
    let no_rank = case(&Limits { ranks: Count::exactly(0), ..limits() }, &Claims::Any, Size::default());
    let reason = no_rank.new_tree(&mut runner(3)).err().unwrap();
    assert!(reason.message().contains("1..=4 ranks, of which the subject takes exactly 0"), "{reason}");
    let no_token = case(&Limits { vocabulary: 0, ..limits() }, &Claims::Any, Size::default());
    assert!(no_token.new_tree(&mut runner(3)).is_err());
}

#[test]
fn a_seed_fixes_every_case() {
    let draw = |seed| {
        let mut runner = runner(seed);
        let strategy = case(&limits(), &Claims::Any, Size::default());
        [(); 8].map(|()| strategy.new_tree(&mut runner).unwrap().current())
    };
    assert_eq!(draw(4), draw(4));
    assert_ne!(draw(4), draw(5));
}
