//! How often a case has what laws need it to have.

use crate::{
    POSITIONS,
    features::{
        any_sequence, differ, has_hole, has_ignored_suffix, has_prompt, has_uneven_upstream, is_empty,
        is_packed, is_padded_left, is_padded_right, most_equal_tokens, pads_with_a_supervised_token,
    },
    limits, runner,
};
use lossproof_cases::{
    Case, Scale,
    strategies::{Size, case},
};
use lossproof_spec::{
    Combine, EmptyPolicy, IGNORE_INDEX, LossSpec, Reduction, Scope, Sequence, TokenWeights,
};
use lossproof_subject::Claims;
use proptest::strategy::{Strategy, ValueTree};
use std::fmt::Write;

type Count = fn(&Case) -> usize;
type Feature = (&'static str, fn(&Case) -> bool);

const FEATURES: &[Feature] = &[
    ("naive accumulated mean is not the token mean", |case| {
        differ(case, &LossSpec::naive_accumulated_mean(), &LossSpec::token_mean())
    }),
    ("naive data parallel is not the token mean", |case| {
        differ(case, &LossSpec::naive_data_parallel(), &LossSpec::token_mean())
    }),
    ("per-sequence mean is not the per-token mean", |case| {
        differ(case, &LossSpec::sequence_mean(), &LossSpec::token_mean())
    }),
    ("several sequences, equally many tokens in each", |case| {
        let layout = case.batch.layout();
        let counts: Vec<_> = layout.sequences().map(|sequence| sequence.supervised).collect();
        counts.len() > 1 && counts[0] > 0 && counts.iter().all(|count| *count == counts[0])
    }),
    ("no group is empty", |case| case.batch.sequences().all(|sequence| sequence.supervised() > 0)),
    ("a sequence is empty", |case| any_sequence(case, |sequence| sequence.supervised() == 0)),
    ("a micro-batch is empty", |case| case.batch.layout().micro_batches().any(is_empty)),
    ("a rank is empty, another is not", |case| {
        let layout = case.batch.layout();
        let empty = layout.ranks().iter().filter(|rank| is_empty(rank.iter().flatten())).count();
        empty > 0 && empty < layout.ranks().len()
    }),
    ("the whole batch is empty", |case| case.batch.layout().supervised() == 0),
    ("a sequence of one position", |case| any_sequence(case, |sequence| sequence.len() == 1)),
    ("something is ignored", |case| any_sequence(case, |sequence| sequence.labels().contains(&IGNORE_INDEX))),
    ("nothing is ignored", |case| !any_sequence(case, |sequence| sequence.labels().contains(&IGNORE_INDEX))),
    ("a first label is ignored", |case| any_sequence(case, |sequence| sequence.labels()[0] == IGNORE_INDEX)),
    ("a first label is given", |case| any_sequence(case, |sequence| sequence.labels()[0] != IGNORE_INDEX)),
    ("an empty sequence has its first label", |case| {
        any_sequence(case, |sequence| sequence.supervised() == 0 && sequence.labels()[0] != IGNORE_INDEX)
    }),
    ("a prompt", |case| any_sequence(case, has_prompt)),
    ("a suffix is ignored", |case| any_sequence(case, has_ignored_suffix)),
    ("a hole", |case| any_sequence(case, has_hole)),
    ("padding equals a supervised token", |case| any_sequence(case, pads_with_a_supervised_token)),
    ("padded on the left", |case| any_sequence(case, is_padded_left)),
    ("padded on the right", |case| any_sequence(case, is_padded_right)),
    ("packed", |case| any_sequence(case, is_packed)),
    ("a token twice in a sequence", |case| any_sequence(case, |sequence| most_equal_tokens(sequence) > 1)),
    ("a token four times in a sequence", |case| {
        any_sequence(case, |sequence| most_equal_tokens(sequence) > 3)
    }),
    ("several ranks", |case| case.batch.ranks().len() > 1),
    ("4 ranks", |case| case.batch.ranks().len() == 4),
    ("several micro-batches of a rank", |case| {
        case.batch.ranks().iter().any(|rank| rank.micro_batches().len() > 1)
    }),
    ("5 micro-batches of a rank", |case| {
        case.batch.ranks().iter().any(|rank| rank.micro_batches().len() == 5)
    }),
    ("6 sequences of a micro-batch", |case| {
        case.batch.micro_batches().any(|rows| rows.sequences().len() == 6)
    }),
    ("24 positions", |case| any_sequence(case, |sequence| sequence.len() == POSITIONS)),
    ("one sequence in all", |case| case.batch.sequences().count() == 1),
    ("sum", |case| case.spec.reduction == Reduction::Sum),
    ("token mean", |case| case.spec.reduction == Reduction::TokenMean),
    ("sequence mean", |case| case.spec.reduction == Reduction::SequenceMean),
    ("batch mean", |case| case.spec.reduction == Reduction::BatchMean),
    ("counted in each micro-batch", |case| case.spec.scope == Scope::MicroBatch),
    ("counted in each rank's window", |case| case.spec.scope == Scope::RankWindow),
    ("counted globally", |case| case.spec.scope == Scope::Global),
    ("micro-batches averaged", |case| case.spec.micro_batches == Combine::Average),
    ("ranks averaged", |case| case.spec.ranks == Combine::Average),
    ("micro-batches and ranks added", |case| {
        case.spec.micro_batches == Combine::Add && case.spec.ranks == Combine::Add
    }),
    ("empty groups count zero", |case| case.spec.empty == EmptyPolicy::ZeroCounted),
    ("empty groups are skipped", |case| case.spec.empty == EmptyPolicy::ZeroSkipped),
    ("empty groups are NaN", |case| case.spec.empty == EmptyPolicy::Nan),
    ("empty groups are errors", |case| case.spec.empty == EmptyPolicy::Error),
    ("the spec has weights on the batch", |case| TokenWeights::new(&case.spec, &case.batch.layout()).is_ok()),
    ("a policy leaves no weights", |case| TokenWeights::new(&case.spec, &case.batch.layout()).is_err()),
    ("label smoothing", |case| case.spec.label_smoothing > 0.0),
    ("z-loss", |case| case.spec.z_loss > 0.0),
    ("neither label smoothing nor z-loss", |case| {
        case.spec.label_smoothing.max(case.spec.z_loss).total_cmp(&0.0).is_eq()
    }),
    ("GPT-2's initial scale", |case| case.scale == Scale::Gpt2),
    ("upstream weights not all equal", has_uneven_upstream),
];

/// Below this share a law would meet a feature in fewer than eight of its 256 cases.
const FLOOR: f64 = 0.03;

#[test]
fn every_feature_is_common() {
    let mut runner = runner(0);
    let strategy = case(&limits(), &Claims::Any, Size::default());
    let cases: Vec<_> = (0..4096).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let mean = |count: Count| cases.iter().map(count).sum::<usize>() as f64 / cases.len() as f64;
    let mut table = String::new();
    let mut rare = Vec::new();
    for (name, holds) in FEATURES {
        let share = cases.iter().filter(|case| holds(case)).count() as f64 / cases.len() as f64;
        writeln!(table, "{name:<50}{:5.1} %", 100.0 * share).unwrap();
        if share < FLOOR {
            rare.push(*name);
        }
    }
    let means: [(&str, Count); 3] = [
        ("sequences", |case| case.batch.sequences().count()),
        ("positions", |case| case.batch.sequences().map(Sequence::len).sum()),
        ("supervised tokens", |case| case.batch.layout().supervised()),
    ];
    for (name, count) in means {
        writeln!(table, "mean number of {name:<35}{:5.1}", mean(count)).unwrap();
    }
    assert!(rare.is_empty(), "too rare: {rare:?}");
    let sequences = mean(means[0].1);
    assert!((8.0..12.0).contains(&sequences), "{sequences} sequences on average");
    insta::assert_snapshot!(table);
}
