//! From weights back to semantics: every loss spec is found from its own weights, and nothing that differs
//! is.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use lossproof_diagnosis::inference::{
    BeyondLayout, Choice, CountedFrom, EmptyMean, Inference, InferenceError, MeasuredRatio, Measurement,
    WeightComparison, explain_ratio, infer, infer_empty_mean,
};
use lossproof_spec::{
    Counting, EmptyPolicy, GlobalBatch, IGNORE_INDEX, Layout, LossSpec, MicroBatch, Rank, Reduction,
    Sequence, SequenceShape, TokenWeights,
};
use num_traits::ToPrimitive;
use proptest::{collection::vec, prelude::*};

#[path = "../../lossproof-spec/tests/common/mod.rs"]
mod common;

/// For every position of a sequence, whether its (unshifted) label is given.
type GivenLabels = Vec<bool>;

fn batch(rows: &[Vec<Vec<GivenLabels>>]) -> GlobalBatch {
    let sequence = |row: &GivenLabels| {
        let label = |&given: &bool| if given { 7 } else { IGNORE_INDEX };
        Sequence::new(vec![7; row.len()], row.iter().map(label).collect()).unwrap()
    };
    let micro_batch = |m: &Vec<GivenLabels>| MicroBatch::new(m.iter().map(sequence).collect()).unwrap();
    let rank = |r: &Vec<Vec<GivenLabels>>| Rank::new(r.iter().map(micro_batch).collect()).unwrap();
    GlobalBatch::new(rows.iter().map(rank).collect()).unwrap()
}

/// Every label given.
fn full(lengths: &[&[&[usize]]]) -> GlobalBatch {
    let micro_batch = |m: &&[usize]| m.iter().map(|&l| vec![true; l]).collect();
    batch(&lengths.iter().map(|r| r.iter().map(micro_batch).collect()).collect::<Vec<_>>())
}

/// Rank 0: micro-batches of 3 + 1 and 5 tokens; rank 1: of 2 and 8. N = 19, n = 5, m = 5.
fn ragged() -> GlobalBatch {
    full(&[&[&[4, 2], &[6]], &[&[3], &[9]]])
}

fn weights(spec: &LossSpec, batch: &GlobalBatch) -> Vec<f64> {
    TokenWeights::new(spec, &batch.layout()).unwrap().per_prediction(batch)
}

fn measured(values: &[f64], error: f64) -> Vec<Measurement> {
    values.iter().map(|&value| Measurement { value, error }).collect()
}

fn read(values: &[f64], batch: &GlobalBatch) -> Inference {
    infer(batch, &measured(values, 1e-6)).unwrap()
}

fn found(inference: &Inference, spec: &LossSpec) -> bool {
    inference.matches().iter().any(|fit| fit.class.contains(spec))
}

fn ids(comparison: &WeightComparison) -> [Vec<&'static str>; 3] {
    let c = &comparison.consequences;
    [&c.violated, &c.satisfied, &c.open].map(|clauses| clauses.iter().map(|clause| clause.id).collect())
}

/// Any labels: sequences of one position, empty groups and ignored first labels included.
fn batches() -> impl Strategy<Value = GlobalBatch> {
    vec(vec(vec(vec(prop::bool::weighted(0.7), 1..6), 1..4), 1..3), 1..3).prop_map(|rows| batch(&rows))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_spec_is_found_from_its_weights_and_whatever_else_is_found_weighs_the_same(
        batch in batches(),
        spec in common::specs(),
    ) {
        let layout = batch.layout();
        let Ok(exact) = TokenWeights::new(&spec, &layout) else { return Ok(()) };
        let inference = infer(&batch, &measured(&exact.per_prediction(&batch), 0.0)).unwrap();
        if layout.supervised() == 0 {
            prop_assert!(inference.matches().is_empty(), "no weight says anything");
            return Ok(());
        }
        prop_assert!(found(&inference, &spec), "{inference}");
        prop_assert!(inference.multiples().is_empty());
        prop_assert_eq!(inference.weight_on_ignored().count() + inference.missing_weight().count(), 0);
        for other in inference.matches().iter().flat_map(|fit| fit.class.specs()) {
            prop_assert_eq!(&TokenWeights::new(other, &layout).unwrap(), &exact);
        }
        for other in common::all_specs() {
            prop_assert_eq!(found(&inference, &other), TokenWeights::new(&other, &layout).as_ref() == Ok(&exact));
        }
        let comparison = inference.against(&spec);
        prop_assert!(comparison.agrees, "{comparison}");
        prop_assert!(comparison.consequences.violated.is_empty(), "{comparison}");
    }

    #[test]
    fn noise_within_the_errors_changes_nothing(
        batch in batches(),
        spec in common::specs(),
        noise in vec(-1.0..=1.0_f64, 64),
        exponent in 4..12_i32,
    ) {
        let Ok(exact) = TokenWeights::new(&spec, &batch.layout()) else { return Ok(()) };
        // The closest two weights of these layouts differ by more than 2e-8, which a bound must stay below.
        let error = 10_f64.powi(-exponent).min(5e-9);
        let values = exact.per_prediction(&batch);
        let noisy: Vec<f64> = values.iter().zip(&noise).map(|(value, noise)| value + noise * error).collect();
        let quiet = infer(&batch, &measured(&values, error)).unwrap();
        let loud = infer(&batch, &measured(&noisy, error)).unwrap();
        prop_assert_eq!(quiet.matches(), loud.matches());
        prop_assert_eq!(quiet.to_string(), loud.to_string());
        prop_assert_eq!(quiet.against(&spec).consequences, loud.against(&spec).consequences);
    }

    #[test]
    fn what_a_class_calls_itself_is_what_it_is(batch in batches(), spec in common::specs()) {
        let layout = batch.layout();
        let Ok(exact) = TokenWeights::new(&spec, &layout) else { return Ok(()) };
        let inference = infer(&batch, &measured(&exact.per_prediction(&batch), 0.0)).unwrap();
        let Some(fit) = inference.matches().first() else { return Ok(()) };
        let alternatives = fit.class.alternatives();
        prop_assert_eq!(
            TokenWeights::new(&alternatives[0], &layout).unwrap(),
            TokenWeights::new(fit.representative(), &layout).unwrap()
        );
        for alternative in &alternatives {
            prop_assert!(fit.class.contains(alternative), "{alternative}");
        }
        let kinds: Vec<Reduction> = fit.class.specs().iter().map(|spec| spec.reduction).collect();
        prop_assert!(kinds.iter().all(|kind| alternatives.iter().any(|spec| spec.reduction == *kind)
            || fit.class.indifferent().contains(&Choice::Reduction)));
    }

    #[test]
    fn a_uniform_factor_is_recognised_on_any_weights(batch in batches(), spec in common::specs(), factor in 1.5..9.0_f64) {
        let Ok(exact) = TokenWeights::new(&spec, &batch.layout()) else { return Ok(()) };
        if batch.layout().supervised() == 0 {
            return Ok(());
        }
        let scaled: Vec<f64> = exact.per_prediction(&batch).iter().map(|weight| weight * factor).collect();
        let inference = infer(&batch, &measured(&scaled, 0.0)).unwrap();
        let MeasuredRatio::Uniform { factor: ratio, .. } = inference.against(&spec).ratio else {
            return Err(TestCaseError::fail("not uniform"));
        };
        prop_assert!((ratio.value - factor).abs() <= 1e-14 * factor, "{ratio:?}");
        prop_assert!(!inference.against(&spec).agrees);
        let multiple = inference.multiples().iter().find(|multiple| multiple.class.contains(&spec));
        // By chance the scaled weights may be those of another spec.
        prop_assert!(multiple.is_some() || !inference.matches().is_empty());
    }
}

#[test]
fn semantics_are_named_in_few_words() {
    let batch = ragged();
    let text = |spec: LossSpec| read(&weights(&spec, &batch), &batch).to_string();
    let first = |spec| text(spec).lines().next().unwrap().to_owned();
    assert_eq!(
        first(LossSpec::token_mean()),
        "per-token mean over the global batch: every supervised token weighs 0.0526 = 1/19"
    );
    assert_eq!(first(LossSpec::sum()), "sum: every supervised token weighs 1.0000 = 1");
    assert_eq!(
        first(LossSpec::sequence_mean()),
        "per-sequence mean over the global batch: supervised tokens weigh from 0.0250 = 1/40 to 0.2000 = 1/5"
    );
    assert_eq!(
        first(LossSpec::naive_accumulated_mean()),
        "naive accumulated mean (per-token mean over each micro-batch, micro-batches averaged, ranks averaged): \
         supervised tokens weigh from 0.0312 = 1/32 to 0.1250 = 1/8"
    );
    let before_shift = LossSpec { counting: Counting::BeforeShift, ..LossSpec::token_mean() };
    assert_eq!(
        first(before_shift),
        "per-token mean over the global batch, tokens counted before the shift: every supervised token weighs 0.0417 = \
         1/24"
    );
    assert_eq!(
        text(LossSpec::token_mean()).lines().nth(1).unwrap(),
        "  no difference on this batch: the empty policy"
    );
}

#[test]
fn what_a_batch_cannot_tell_apart_is_said() {
    let batch = full(&[&[&[5, 5, 5]]]);
    let inference = read(&weights(&LossSpec::token_mean(), &batch), &batch);
    let class = &inference.matches()[0].class;
    assert_eq!(
        class.indifferent(),
        [Choice::Scope, Choice::MicroBatches, Choice::Ranks, Choice::Empty],
        "{inference}"
    );
    let names: Vec<_> = class.alternatives().iter().map(|spec| (spec.reduction, spec.counting)).collect();
    assert_eq!(
        names,
        [
            (Reduction::TokenMean, Counting::Supervised),
            (Reduction::SequenceMean, Counting::Supervised),
            (Reduction::TokenMean, Counting::AllPositions),
            (Reduction::SequenceMean, Counting::AllPositions),
        ]
    );
    // Two micro-batches per rank and two ranks: one over the one is one over the other.
    let batch = ragged();
    let inference = read(&weights(&LossSpec::averaging_not_undone(), &batch), &batch);
    let text = inference.to_string();
    assert!(
        text.contains("the same on this batch: per-token mean over the global batch, micro-batches averaged"),
        "{text}"
    );
}

#[test]
fn errors_that_are_too_large_leave_a_choice() {
    let batch = ragged();
    let values = weights(&LossSpec::token_mean(), &batch);
    let coarse = infer(&batch, &measured(&values, 0.012)).unwrap();
    let specs: Vec<_> = coarse.matches().iter().map(|fit| *fit.representative()).collect();
    assert_eq!(specs[0], LossSpec::token_mean());
    assert!(
        specs.contains(&LossSpec { counting: Counting::BeforeShift, ..LossSpec::token_mean() }),
        "{coarse}"
    );
    assert!(coarse.to_string().contains("or, within the errors: "), "{coarse}");
    let comparison = coarse.against(&LossSpec::token_mean());
    assert!(comparison.agrees && comparison.consequences.violated.is_empty(), "{comparison}");
    assert!(["2.2", "2.9"].iter().all(|id| ids(&comparison)[2].contains(id)), "{comparison}");
    // A weight about which nothing is known excludes nothing.
    let mut unknown = measured(&values, 1e-9);
    unknown[3] = Measurement { value: 1e6, error: f64::INFINITY };
    assert_eq!(
        infer(&batch, &unknown).unwrap().matches(),
        infer(&batch, &measured(&values, 1e-9)).unwrap().matches()
    );
}

#[test]
fn a_multiple_of_a_semantics_is_named_with_its_factor() {
    // Three ranks with one micro-batch each, 2 + 4 + 6 tokens; averaged twice: 1/(R²·N).
    let batch = full(&[&[&[3]], &[&[5]], &[&[7]]]);
    let twice: Vec<f64> = weights(&LossSpec::token_mean(), &batch).iter().map(|w| w / 9.0).collect();
    let inference = read(&twice, &batch);
    assert!(inference.matches().is_empty());
    let text = inference.to_string();
    assert!(text.starts_with("no known semantics\n"), "{text}");
    assert!(
        text.contains("1/9 of the per-token mean over the global batch: 0.1111 = 1/9 = 1/R² (3 ranks)"),
        "{text}"
    );
    let comparison = inference.against(&LossSpec::token_mean());
    let MeasuredRatio::Uniform { factor, explained } = &comparison.ratio else { panic!("{comparison}") };
    assert!((factor.value - 1.0 / 9.0).abs() < 1e-6);
    assert_eq!(explained.as_deref().unwrap(), "0.1111 = 1/9 = 1/R² (3 ranks) = 1/(K·R)² (3 micro-batches)");
    let [violated, satisfied, open] = ids(&comparison);
    assert_eq!(violated, ["2.2"], "{comparison}");
    assert!(satisfied.is_empty() && open.contains(&"4.1"), "{comparison}");
}

#[test]
fn masks_that_are_not_heeded_are_seen() {
    // A prompt of two tokens before an answer of three, and a sequence of four.
    let batch = batch(&[vec![vec![vec![false, false, true, true, true], vec![true; 4]]]]);
    assert_eq!(batch.layout().supervised(), 6);
    // Everything is trained, and divided by what is supervised.
    let all = read(&[1.0 / 6.0; 7], &batch);
    assert_eq!(all.weight_on_ignored().map(|p| (p.sequence, p.position)).collect::<Vec<_>>(), [(0, 0)]);
    assert_eq!(all.missing_weight().count(), 0);
    assert_eq!(
        (all.matches()[0].counted, all.matches()[0].representative()),
        (CountedFrom::Labels, &LossSpec::token_mean())
    );
    let comparison = all.against(&LossSpec::token_mean());
    assert!(!comparison.agrees);
    let text = comparison.to_string();
    let lines = "not the per-token mean over the global batch\nfound: per-token mean over the global batch, with weight on \
                 1 ignored position\nhence violated:\n  2.2 ";
    assert!(text.starts_with(lines), "{text}");
    // Everything is trained, and divided by its own number.
    let own = read(&[1.0 / 7.0; 7], &batch);
    // Counting the labels and the first label of the second sequence gives 7 too.
    let readings: Vec<_> =
        own.matches().iter().map(|fit| (fit.counted, fit.representative().counting)).collect();
    assert!(readings.contains(&(CountedFrom::Trained, Counting::Supervised)), "{own}");
    let comparison = own.against(&LossSpec::token_mean());
    let [violated, ..] = ids(&comparison);
    assert!(["2.2", "3.1", "3.5"].iter().all(|id| violated.contains(id)), "{comparison}");
    assert!(own.to_string().contains("weight on ignored positions: 1 (0 of sequence 0)"), "{own}");
    // The first token of each answer is lost.
    let sliced = read(&[0.0, 0.0, 0.25, 0.25, 0.0, 0.25, 0.25], &batch);
    assert_eq!(
        sliced.missing_weight().map(|p| (p.sequence, p.position)).collect::<Vec<_>>(),
        [(0, 1), (1, 0)]
    );
    let fit = &sliced.matches()[0];
    assert_eq!((fit.counted, fit.representative()), (CountedFrom::Trained, &LossSpec::token_mean()));
    let [violated, ..] = ids(&sliced.against(&LossSpec::token_mean()));
    assert_eq!(violated, ["2.2"]);
}

#[test]
fn weights_that_no_spec_has_are_not_given_one() {
    let batch = ragged();
    let mut values = weights(&LossSpec::token_mean(), &batch);
    values[0] *= 1.5;
    let inference = read(&values, &batch);
    assert!(inference.matches().is_empty() && inference.multiples().is_empty());
    assert_eq!(inference.uneven_sequences(), [0]);
    let comparison = inference.against(&LossSpec::token_mean());
    let text = comparison.to_string();
    assert!(
        text.starts_with(
            "not the per-token mean over the global batch: weights divided by what they should be are from 1.0000 = 1 \
             to 1.5000 = 3/2\nfound: no known semantics\nhence violated:\n  2.2   The per-token mean MUST"
        ),
        "{text}"
    );
}

#[test]
fn not_x_hence_not_y() {
    let batch = ragged();
    let compare =
        |found: LossSpec, declared: LossSpec| ids(&read(&weights(&found, &batch), &batch).against(&declared));
    let mean = LossSpec::token_mean();
    let [violated, satisfied, open] = compare(mean, mean);
    assert!(violated.is_empty());
    assert_eq!(
        satisfied,
        ["2.2", "2.6", "2.7", "2.8", "2.9", "2.12", "3.2", "3.3", "4.1", "4.2", "5.2", "5.4", "5.5"]
    );
    // Only an ignored batch tells the empty policies apart.
    assert_eq!(open, ["3.4"]);

    let [violated, satisfied, _] = compare(LossSpec::naive_accumulated_mean(), mean);
    assert_eq!(violated, ["2.2", "4.1", "5.2"]);
    assert_eq!(satisfied, ["2.6", "2.9", "2.12", "3.2", "3.3", "4.2", "5.4", "5.5"]);
    assert_eq!(compare(LossSpec::forgotten_division(), mean)[0], ["2.2", "2.6", "4.1", "5.2", "5.5"]);
    assert_eq!(compare(LossSpec::naive_data_parallel(), mean)[0], ["2.2", "2.7", "5.2"]);
    let before_shift = LossSpec { counting: Counting::BeforeShift, ..mean };
    assert_eq!(compare(before_shift, mean)[0], ["2.2", "2.9", "3.3"]);
    let padding = LossSpec { counting: Counting::AllPositions, ..mean };
    assert_eq!(compare(padding, mean)[0], ["2.2", "2.9", "3.2", "3.3"]);
    assert_eq!(compare(LossSpec::sum(), mean)[0], ["2.2", "2.12", "5.5"]);
    assert_eq!(compare(mean, LossSpec::sum())[0], ["2.1", "2.12", "5.5"]);
    assert_eq!(compare(LossSpec::naive_accumulated_mean(), LossSpec::naive_accumulated_mean())[0], [""; 0]);
    assert_eq!(compare(mean, LossSpec::naive_accumulated_mean())[0], ["2.5", "4.3"]);
    // A count that is declared is no mistake.
    assert_eq!(compare(before_shift, before_shift)[0], [""; 0]);

    // With two ranks of two micro-batches it is one or the other that was averaged; with three ranks it is
    // clear.
    let [violated, _, open] = compare(LossSpec::averaging_not_undone(), mean);
    assert_eq!((violated, open.contains(&"2.8")), (vec!["2.2", "5.2"], true));
    let batch = full(&[&[&[4, 2], &[6]], &[&[3], &[10]], &[&[5], &[5]]]);
    let inference = read(&weights(&LossSpec::averaging_not_undone(), &batch), &batch);
    let comparison = inference.against(&mean);
    assert_eq!(ids(&comparison)[0], ["2.2", "2.8", "5.2", "5.5"], "{comparison}");
    let text = comparison.to_string();
    assert!(
        text.starts_with(
            "not the per-token mean over the global batch: every weight divided by what it should be is 0.3333 = \
             1/3 = 1/R (3 ranks)\nfound: averaging not undone (per-token mean over the global batch, micro-batches added, \
             ranks averaged)"
        ),
        "{text}"
    );
}

#[test]
fn empty_groups_reveal_the_policy() {
    // The second sequence of the first micro-batch and the whole second micro-batch are ignored.
    let batch =
        batch(&[vec![vec![vec![true; 4], vec![false; 3]], vec![vec![false; 2]], vec![vec![true; 3]]]]);
    let naive = LossSpec::naive_accumulated_mean();
    let skipped = LossSpec { empty: EmptyPolicy::ZeroSkipped, ..naive };
    let inference = read(&weights(&skipped, &batch), &batch);
    assert!(found(&inference, &skipped) && !found(&inference, &naive), "{inference}");
    let [violated, ..] = ids(&inference.against(&naive));
    assert_eq!(violated, ["2.5", "2.13", "4.3"]);
    for (failure, empty) in [(EmptyMean::Nan, EmptyPolicy::Nan), (EmptyMean::Refused, EmptyPolicy::Error)] {
        let inference = infer_empty_mean(&batch, failure);
        assert!(found(&inference, &LossSpec { empty, ..naive }), "{inference}");
        assert!(!found(&inference, &naive) && !found(&inference, &LossSpec { empty, ..LossSpec::sum() }));
        assert!(inference.against(&LossSpec { empty, ..naive }).agrees);
        let comparison = inference.against(&naive);
        assert!(!comparison.agrees && ids(&comparison)[0].contains(&"2.13"), "{comparison}");
    }
    // One NaN is all NaN.
    let mut values = weights(&naive, &batch);
    values[0] = f64::NAN;
    assert_eq!(read(&values, &batch), infer_empty_mean(&batch, EmptyMean::Nan));
    // No group is empty here, so no policy makes NaN of it.
    let inference = infer_empty_mean(&ragged(), EmptyMean::Nan);
    assert_eq!(inference.to_string(), "NaN, which no empty policy makes of this batch");
}

#[test]
fn ratios_are_explained_from_the_most_to_the_least_specific() {
    // 25 supervised tokens in four sequences, all first labels given: transformers' 25/29.
    let layout = full(&[&[&[9, 8, 7, 5]]]).layout();
    let explain = |value| explain_ratio(&layout, BeyondLayout::default(), value, 1e-6);
    assert_eq!(
        explain(0.862_069).unwrap(),
        "0.8621 = 25/29 = supervised / labels before the shift (25 / 29) = supervised / tokens (25 / 29)"
    );
    assert_eq!(
        explain(25.0 / 32.0).unwrap(),
        "0.7812 = 25/32 = supervised / positions padded by micro-batch (25 / 32) = supervised / padded positions (25 / 32)"
    );
    assert_eq!(explain(0.25).unwrap(), "0.2500 = 1/4 = 1/n (4 sequences)");
    assert_eq!(explain(4.0).unwrap(), "4.0000 = 4 = n (4 sequences)");
    assert_eq!(explain(0.04).unwrap(), "0.0400 = 1/25 = 1/N (25 supervised tokens)");
    assert_eq!(explain(1.0), None);
    assert_eq!(explain(0.7), None);
    assert_eq!(explain_ratio(&layout, BeyondLayout::default(), 0.99, 0.02), None, "it may be one");
    let layout = ragged().layout();
    assert_eq!(
        explain_ratio(&layout, BeyondLayout::default(), 0.5, 1e-9).unwrap(),
        "0.5000 = 1/2 = 1/R (2 ranks) = 1/K (2 micro-batches of a rank)"
    );
    assert_eq!(
        explain_ratio(&layout, BeyondLayout::default(), 0.25, 1e-9).unwrap(),
        "0.2500 = 1/4 = 1/(K·R) (4 micro-batches) = 1/R² (2 ranks) = 1/K² (2 micro-batches of a rank)"
    );
    let beyond = BeyondLayout { vocabulary: Some(50), longest_window: Some(7) };
    let explain = |value| explain_ratio(&layout, beyond, value, 1e-9).unwrap();
    assert_eq!(explain(0.02), "0.0200 = 1/50 = 1/V (50 tokens of the vocabulary)");
    assert_eq!(
        explain(2.0 / 7.0),
        "0.2857 = 2/7 = micro-batches of this window / micro-batches of the longest before (2 / 7)"
    );
    // Counts as large as they come do not overflow.
    let endless = Layout::new(vec![vec![vec![SequenceShape::full(usize::MAX)]]]).unwrap();
    assert_eq!(explain_ratio(&endless, BeyondLayout::default(), 0.5, 0.0), None);
}

#[test]
fn a_fraction_is_recognised_only_where_it_is_no_accident() {
    let of = |value: f64, error| Measurement { value, error }.fraction().map(|fraction| fraction.to_string());
    assert_eq!(of(0.862_069, 1e-6).as_deref(), Some("25/29"));
    assert_eq!(of(-1.0 / 3.0, 1e-9).as_deref(), Some("-1/3"));
    assert_eq!(of(1.0 / 516_096.0, 0.0).as_deref(), Some("1/516096"));
    assert_eq!(of(7.0, 1e-9).as_deref(), Some("7"));
    assert_eq!(of(0.862_069, 1e-2), None, "6/7 lies as near");
    assert_eq!(of(std::f64::consts::PI / 4.0, 1e-9), None);
    assert_eq!(of(0.0, 1e-9), None);
    assert_eq!(of(f64::NAN, 1e-9), None);
    assert_eq!(of(0.5, f64::INFINITY), None);
    for denominator in 2..200_i32 {
        for numerator in 1..denominator {
            let value = f64::from(numerator) / f64::from(denominator);
            let fraction = Measurement { value, error: 1e-9 }.fraction().unwrap();
            assert!(
                (fraction.to_f64().unwrap() - value).abs() < 1e-15,
                "{numerator}/{denominator}: {fraction}"
            );
        }
    }
}

#[test]
fn measurements_that_cannot_be_read_are_refused() {
    let batch = ragged();
    assert_eq!(infer(&batch, &[]).unwrap_err(), InferenceError::Number { found: 0, expected: 19 });
    for error in [-1.0, f64::NAN] {
        let refused = infer(&batch, &measured(&[0.05; 19], error)).unwrap_err();
        assert!(refused.to_string().starts_with("the error bound of weight 0 is "), "{refused}");
    }
    let zero = read(&[0.0; 19], &batch);
    assert!(zero.matches().is_empty() && zero.missing_weight().count() == 19);
    assert!(zero.to_string().contains("no weight on supervised positions: 19 (0 of sequence 0"), "{zero}");
    let infinite = read(&[f64::INFINITY; 19], &batch);
    assert!(infinite.matches().is_empty(), "{infinite}");
}

#[test]
fn numbers_that_happen_to_agree_are_confessed() {
    // Twenty supervised tokens, five sequences, four micro-batches: 20 = 5·4.
    let batch = full(&[&[&[4, 2], &[6]], &[&[3], &[10]]]);
    let text = read(&weights(&LossSpec::token_mean(), &batch), &batch).to_string();
    let confused =
        "the same on this batch: batch mean over the global batch, micro-batches averaged, ranks averaged";
    assert!(text.contains(confused), "{text}");
}

#[test]
fn the_page_on_tomography_shows_what_is_found() {
    const PAGE: &str = include_str!("../../../docs/tomography.md");
    let batch = full(&[&[&[5, 3], &[4], &[3]], &[&[7], &[6], &[4]]]);
    let before_shift = LossSpec { counting: Counting::BeforeShift, ..LossSpec::token_mean() };
    let mut shown = Vec::new();
    for spec in [LossSpec::naive_accumulated_mean(), before_shift, LossSpec::averaging_not_undone()] {
        let inference = infer(&batch, &measured(&weights(&spec, &batch), 1e-10)).unwrap();
        let comparison = inference.against(&LossSpec::token_mean());
        let text = comparison.to_string();
        let reasons: Vec<_> = text.lines().take_while(|line| *line != "hence violated:").collect();
        shown.push(format!("{}\nhence violated: {}\n", reasons.join("\n"), ids(&comparison)[0].join(", ")));
    }
    let block = PAGE.split_once("<!-- inference:").unwrap().1.split_once("```text\n").unwrap().1;
    assert_eq!(block.split_once("```").unwrap().0, shown.join("\n"));
}
