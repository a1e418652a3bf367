//! Which semantics are the same inside a trainer's limits, held to every layout that small limits admit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_spec::{
    Combine, Counting, EmptyPolicy, Layout, LossSpec, Reduction, Scope, SequenceShape, TokenWeights, to_f64,
};
use lossproof_subject::{Claims, Count, Limits, equivalent};

/// Every spec without smoothing and z-loss.
fn specs() -> Vec<LossSpec> {
    let mut specs = Vec::new();
    for reduction in [Reduction::Sum, Reduction::TokenMean, Reduction::SequenceMean, Reduction::BatchMean] {
        for scope in [Scope::MicroBatch, Scope::RankWindow, Scope::Global] {
            for micro_batches in [Combine::Add, Combine::Average] {
                for ranks in [Combine::Add, Combine::Average] {
                    for empty in [
                        EmptyPolicy::ZeroCounted,
                        EmptyPolicy::ZeroSkipped,
                        EmptyPolicy::Nan,
                        EmptyPolicy::Error,
                    ] {
                        for counting in [Counting::Supervised, Counting::BeforeShift, Counting::AllPositions]
                        {
                            specs.push(LossSpec {
                                reduction,
                                scope,
                                micro_batches,
                                ranks,
                                empty,
                                counting,
                                ..LossSpec::sum()
                            });
                        }
                    }
                }
            }
        }
    }
    specs
}

/// Every list of as many parts as there may be.
fn lists<T: Clone>(count: Count, parts: &[T]) -> Vec<Vec<T>> {
    let mut all = Vec::new();
    let mut longest = vec![Vec::new()];
    for length in 1..=count.most {
        let mut longer = Vec::new();
        for list in &longest {
            for part in parts {
                longer.push([list.as_slice(), std::slice::from_ref(part)].concat());
            }
        }
        if length >= count.least {
            all.extend(longer.iter().cloned());
        }
        longest = longer;
    }
    all
}

/// Every layout inside the limits.
fn layouts(limits: &Limits) -> Vec<Layout> {
    let mut shapes = Vec::new();
    for positions in limits.lengths.least..=limits.lengths.most {
        for supervised in 0..positions {
            for first_label in [false, true] {
                let shape = SequenceShape { positions, supervised, first_label };
                if limits.ignore_index || shape == SequenceShape::full(positions) {
                    shapes.push(shape);
                }
            }
        }
    }
    let micro_batches = lists(limits.sequences, &shapes);
    let ranks = lists(limits.micro_batches, &micro_batches);
    lists(limits.ranks, &ranks).into_iter().map(|ranks| Layout::new(ranks).unwrap()).collect()
}

/// What tells semantics apart on one layout: the weights, or how their absence shows.
fn signature(spec: &LossSpec, layout: &Layout) -> Vec<u64> {
    match TokenWeights::new(spec, layout) {
        Ok(weights) => weights.sequences().map(|(weight, _)| to_f64(weight).to_bits()).collect(),
        Err(empty) => vec![u64::MAX, u64::from(empty.nan)],
    }
}

#[test]
fn the_library_recognises_what_no_layout_tells_apart() {
    let most = |count| Count { least: 1, most: count };
    let (one, two) = (Count::exactly(1), Count::exactly(2));
    let base =
        Limits { lengths: most(3), sequences: one, micro_batches: one, ranks: one, ..Limits::of_model(8, 3) };
    let labelled = Limits { ignore_index: false, segments: false, ..base };
    let fixed = Limits { lengths: Count::exactly(3), ..labelled };
    let cases = [
        base,
        labelled,
        fixed,
        Limits { sequences: most(2), ..base },
        Limits { sequences: two, ..fixed },
        Limits { sequences: most(3), ..fixed },
        Limits { micro_batches: most(2), ..base },
        Limits { micro_batches: two, ..base },
        Limits { micro_batches: most(3), ..labelled },
        Limits { micro_batches: two, sequences: two, ..fixed },
        Limits { micro_batches: most(2), sequences: two, ..fixed },
        Limits { micro_batches: most(2), sequences: most(2), ..labelled },
        Limits { micro_batches: two, lengths: Count { least: 2, most: 3 }, ..labelled },
        Limits { ranks: most(2), ..base },
        Limits { ranks: two, micro_batches: most(2), lengths: most(2), ..base },
        Limits { ranks: most(2), micro_batches: most(2), lengths: most(2), ..base },
        Limits { ranks: most(2), sequences: two, ..fixed },
        Limits { ranks: most(2), micro_batches: most(2), sequences: most(2), ..fixed },
    ];
    let specs = specs();
    for limits in cases {
        let all = layouts(&limits);
        // What is equal to one of a class is equal to all of it: one is enough.
        let mut classes: Vec<(&LossSpec, Vec<Vec<u64>>)> = Vec::new();
        for spec in &specs {
            let told: Vec<Vec<u64>> = all.iter().map(|layout| signature(spec, layout)).collect();
            for (first, of_class) in &classes {
                let same = told == *of_class;
                let layouts = all.len();
                assert_eq!(
                    equivalent(first, spec, &limits),
                    same,
                    "{limits:?}: `{first}` and `{spec}` on {layouts} layouts"
                );
            }
            if classes.iter().all(|(_, of_class)| told != *of_class) {
                classes.push((spec, told));
            }
        }
    }
}

#[test]
fn a_claim_is_found_under_another_name_and_smoothing_is_no_other_name() {
    let limits = Limits {
        lengths: Count::exactly(9),
        ignore_index: false,
        segments: false,
        micro_batches: Count::exactly(1),
        ranks: Count::exactly(1),
        ..Limits::of_model(50, 9)
    };
    let claims = Claims::One(LossSpec::token_mean());
    let found = |spec: LossSpec| claims.claim_of(&spec, &limits);
    assert_eq!(found(LossSpec::sequence_mean()), Some(LossSpec::token_mean()));
    assert_eq!(found(LossSpec::naive_accumulated_mean()), Some(LossSpec::token_mean()));
    assert_eq!(found(LossSpec::sum()), None);
    assert_eq!(found(LossSpec { label_smoothing: 0.1, ..LossSpec::token_mean() }), None);
    let free = Limits::of_model(50, 9);
    assert_eq!(claims.claim_of(&LossSpec::sequence_mean(), &free), None);
    assert_eq!(Claims::Any.claim_of(&LossSpec::sum(), &free), Some(LossSpec::sum()));
}
