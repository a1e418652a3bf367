//! What failures shrink to.

use crate::{
    features::{any_sequence, differ, has_hole, is_empty, is_packed, is_padded_left},
    limits, runner,
};
use lossproof_cases::{
    Case, Scale,
    strategies::{Size, case},
};
use lossproof_spec::{
    Combine, GlobalBatch, IGNORE_INDEX, LossSpec, MicroBatch, Rank, Sequence, SequenceFields,
};
use lossproof_subject::Claims;
use proptest::test_runner::{TestCaseError, TestError};
use std::cell::Cell;

/// The cases that failures of `law` shrink to from many seeds, each once.
fn minima(law: impl Fn(&Case) -> bool) -> Vec<Case> {
    let mut minima: Vec<Case> = Vec::new();
    for seed in 0..40 {
        let mut runner = runner(seed);
        let tried = Cell::new(0_u32);
        let result = runner.run(&case(&limits(), &Claims::Any, Size::default()), |case| {
            tried.set(tried.get() + 1);
            if law(&case) { Ok(()) } else { Err(TestCaseError::fail("broken")) }
        });
        let Err(TestError::Fail(_, case)) = result else { panic!("no failure from seed {seed}") };
        // Proptest's default limit, four times the number of cases, cuts nothing short.
        assert!(tried.get() < 1024, "{} tries from seed {seed}", tried.get());
        if !minima.contains(&case) {
            minima.push(case);
        }
    }
    minima
}

fn plain(micro_batches: Vec<Vec<Sequence>>) -> Case {
    let micro_batch = |rows| MicroBatch::new(rows).expect("sequences");
    let micro_batches = micro_batches.into_iter().map(micro_batch).collect();
    let rank = Rank::new(micro_batches).expect("micro-batches");
    Case {
        batch: GlobalBatch::new(vec![rank]).expect("a rank"),
        spec: LossSpec::token_mean(),
        scale: Scale::Probe,
        upstream: vec![1.0],
        seed: 0,
    }
}

/// As many tokens 0 with every label given.
fn zeros(length: usize) -> Sequence {
    Sequence::new(vec![0; length], vec![0; length]).expect("a sequence")
}

/// The naive mean of means fails on two micro-batches with 1 and 2 tokens, in either order.
#[test]
fn to_two_micro_batches_with_one_and_two_tokens() {
    let found = minima(|case| {
        let groups_have_tokens = case.batch.sequences().all(|sequence| sequence.supervised() > 0);
        !groups_have_tokens || !differ(case, &LossSpec::naive_accumulated_mean(), &LossSpec::token_mean())
    });
    let (one, two) = (vec![zeros(2)], vec![zeros(3)]);
    let minimal = [plain(vec![one.clone(), two.clone()]), plain(vec![two, one])];
    assert!(found.iter().all(|case| minimal.contains(case)), "{found:#?}");
    let said = found[0].to_string();
    let words = ["1 and 2", "2 and 1"].map(|both| format!("2 micro-batches with {both} supervised tokens"));
    assert!(words.iter().any(|words| said.starts_with(words)), "{said}");
}

/// A failure that takes many tokens keeps exactly those.
#[test]
fn to_exactly_as_many_tokens_as_it_takes() {
    for case in minima(|case| case.batch.layout().supervised() < 40) {
        assert_eq!(case.batch.layout().supervised(), 40, "{case}");
        let rows = case.batch.sequences().map(|sequence| zeros(sequence.len()));
        assert_eq!(case, plain(vec![rows.collect()]));
    }
}

#[test]
fn to_one_position_where_a_rank_is_empty() {
    let found =
        minima(|case| !case.batch.layout().ranks().iter().any(|rank| is_empty(rank.iter().flatten())));
    assert_eq!(found, [plain(vec![vec![zeros(1)]])]);
}

#[test]
fn to_two_documents_of_one_token() {
    let found = minima(|case| !any_sequence(case, is_packed));
    let packed = SequenceFields {
        input_ids: vec![0, 0],
        labels: vec![IGNORE_INDEX, IGNORE_INDEX],
        segment_ids: vec![1, 2],
        position_ids: vec![0, 0],
        targets: vec![0, 0],
    };
    assert_eq!(found, [plain(vec![vec![Sequence::from_fields(packed).unwrap()]])]);
}

#[test]
fn to_one_token_and_one_of_padding() {
    let found = minima(|case| !any_sequence(case, is_padded_left));
    let padded = SequenceFields {
        input_ids: vec![0, 0],
        labels: vec![IGNORE_INDEX, IGNORE_INDEX],
        segment_ids: vec![0, 1],
        position_ids: vec![0, 0],
        targets: vec![0, 0],
    };
    assert_eq!(found, [plain(vec![vec![Sequence::from_fields(padded).unwrap()]])]);
}

/// The second 1 stays equal to the first on the way down.
#[test]
fn to_the_smallest_token_that_repeats() {
    let repeats =
        |sequence: &Sequence| sequence.input_ids().windows(2).any(|pair| pair[0] == pair[1] && pair[0] > 0);
    let pair = Sequence::new(vec![1, 1], vec![1, 1]).unwrap();
    assert_eq!(minima(|case| !any_sequence(case, repeats)), [plain(vec![vec![pair]])]);
}

/// A mask that matters stays, every other one goes.
#[test]
fn to_one_ignored_label() {
    let hole = Sequence::new(vec![0; 4], vec![0, 0, IGNORE_INDEX, 0]).unwrap();
    assert_eq!(minima(|case| !any_sequence(case, has_hole)), [plain(vec![vec![hole]])]);
}

/// What the failure depends on stays, the rest of the spec and all numbers become plain.
#[test]
fn to_a_plain_spec_with_the_one_field_that_matters() {
    let found = minima(|case| case.spec.ranks == Combine::Add || case.upstream.len() < 3);
    let plain = plain(vec![vec![zeros(1)]]);
    let spec = LossSpec { ranks: Combine::Average, ..plain.spec };
    assert_eq!(found, [Case { spec, upstream: vec![1.0; 3], ..plain }]);
}
