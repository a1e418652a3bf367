//! Token weights against a trainer that knows nothing of weights, and against the laws of the loss calculus.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use lossproof_spec::{
    Combine, Counting, EmptyGroup, EmptyPolicy, Fraction, GlobalBatch, Group, IGNORE_INDEX, Layout,
    LayoutError, LossSpec, MicroBatch, Rank, Reduction, Scope, Sequence, SequenceShape, TokenWeights,
    WeightRatio,
};
use num_traits::{One, ToPrimitive, Zero};
use proptest::{collection::vec, prelude::*};

mod common;

/// For every position of a sequence, whether its (unshifted) label is given.
type Row = Vec<bool>;
/// Ranks × micro-batches × sequences.
type Rows = Vec<Vec<Vec<Row>>>;

/// A batch with these labels, in which every token occurs once.
fn batch(rows: &Rows) -> GlobalBatch {
    let mut tokens = 0_u32..;
    let mut sequence = |row: &Row| {
        let input_ids: Vec<u32> = tokens.by_ref().take(row.len()).collect();
        let label = |(&id, &given): (&u32, &bool)| if given { i64::from(id) } else { IGNORE_INDEX };
        let labels = input_ids.iter().zip(row).map(label).collect();
        Sequence::new(input_ids, labels).unwrap()
    };
    let ranks = rows.iter().map(|rank| {
        let micro_batches =
            rank.iter().map(|m| MicroBatch::new(m.iter().map(&mut sequence).collect()).unwrap());
        Rank::new(micro_batches.collect()).unwrap()
    });
    GlobalBatch::new(ranks.collect()).unwrap()
}

/// What a trainer computes from one loss per prediction, the predictions of all sequences in order: nested sums and
/// means of what is there, cell by cell. `None` where a mean is taken over nothing and the policy does not
/// make it zero.
fn trainer(spec: &LossSpec, rows: &Rows, losses: &[Fraction]) -> Option<Fraction> {
    let mut losses = losses.iter();
    let everything: Vec<&Row> = rows.iter().flatten().flatten().collect();
    let mut of_ranks = Vec::new();
    for rank in rows {
        let window: Vec<&Row> = rank.iter().flatten().collect();
        let mut of_micro_batches = Vec::new();
        for micro_batch in rank {
            let own: Vec<&Row> = micro_batch.iter().collect();
            let scope = match spec.scope {
                Scope::MicroBatch => &own,
                Scope::RankWindow => &window,
                Scope::Global => &everything,
            };
            let width = scope.iter().map(|row| row.len()).max().unwrap();
            let scope: Vec<&Row> = scope.iter().copied().filter(|row| stays(spec, row)).collect();
            let sums: Vec<Fraction> = micro_batch
                .iter()
                .map(|row| row[1..].iter().filter_map(|&given| losses.next().filter(|_| given)).sum())
                .collect();
            let loss = match spec.reduction {
                Reduction::Sum => sums.into_iter().sum(),
                Reduction::TokenMean => {
                    let cells = scope.iter().map(|row| cells(spec, row, width)).sum();
                    divide(spec, sums.into_iter().sum(), cells)?
                }
                Reduction::SequenceMean => {
                    let mut total = Fraction::zero();
                    for (row, sum) in micro_batch.iter().zip(sums) {
                        total += divide(spec, sum, cells(spec, row, width))?;
                    }
                    // Without a sequence there is nothing to divide: the total is zero.
                    total / whole(scope.len().max(1))
                }
                Reduction::BatchMean => sums.into_iter().sum::<Fraction>() / whole(scope.len().max(1)),
            };
            of_micro_batches.push((loss, micro_batch.iter().any(|row| stays(spec, row))));
        }
        let stays = of_micro_batches.iter().any(|(_, stays)| *stays);
        of_ranks.push((put_together(spec.micro_batches, of_micro_batches), stays));
    }
    Some(put_together(spec.ranks, of_ranks))
}

fn whole(count: usize) -> Fraction {
    Fraction::from_integer(count.into())
}

/// Whether a sequence is counted among the sequences.
fn stays(spec: &LossSpec, row: &Row) -> bool {
    spec.empty != EmptyPolicy::ZeroSkipped || row[1..].contains(&true)
}

/// Cells of the label matrix that a trainer counts for one sequence.
fn cells(spec: &LossSpec, row: &Row, width: usize) -> usize {
    let padded: Vec<bool> = row.iter().copied().chain(vec![false; width - row.len()]).collect();
    match spec.counting {
        Counting::Supervised => padded[1..].iter().filter(|given| **given).count(),
        Counting::BeforeShift => padded.iter().filter(|given| **given).count(),
        Counting::AllPositions => padded[1..].len(),
    }
}

fn divide(spec: &LossSpec, sum: Fraction, count: usize) -> Option<Fraction> {
    match (count, spec.empty) {
        (0, EmptyPolicy::ZeroCounted | EmptyPolicy::ZeroSkipped) => Some(Fraction::zero()),
        (0, EmptyPolicy::Nan | EmptyPolicy::Error) => None,
        _ => Some(sum / whole(count)),
    }
}

fn put_together(how: Combine, parts: Vec<(Fraction, bool)>) -> Fraction {
    let parts: Vec<Fraction> = parts.into_iter().filter_map(|(loss, stays)| stays.then_some(loss)).collect();
    let number = whole(parts.len().max(1));
    let sum: Fraction = parts.into_iter().sum();
    match how {
        Combine::Add => sum,
        Combine::Average => sum / number,
    }
}

/// Any labels: sequences of one position, empty groups and ignored first labels included.
fn rows() -> impl Strategy<Value = Rows> {
    vec(vec(vec(vec(prop::bool::weighted(0.6), 1..6), 1..4), 1..4), 1..4)
}

/// No empty group, and often all sequences, micro-batches or ranks alike.
fn full_rows() -> impl Strategy<Value = Rows> {
    let row = || (2..4_usize).prop_map(|length| vec![true; length]);
    let one_row = row().prop_map(|row| vec![row]);
    prop_oneof![
        vec(vec(vec(row(), 1..3), 1..3), 1..3),
        (row(), 1..4_usize, 1..4_usize, 1..4_usize).prop_map(|(row, n, k, r)| vec![vec![vec![row; n]; k]; r]),
        (vec(row(), 1..3), 1..4_usize, 1..4_usize)
            .prop_map(|(micro_batch, k, r)| vec![vec![micro_batch; k]; r]),
        (vec(one_row, 1..4), 1..4_usize).prop_map(|(rank, r)| vec![rank; r]),
    ]
}

fn weights(spec: &LossSpec, layout: &Layout) -> TokenWeights {
    TokenWeights::new(spec, layout).unwrap()
}

fn counts(layout: &Layout) -> (Fraction, Fraction) {
    (whole(layout.supervised()), whole(layout.sequences().count()))
}

fn all_equal<T: PartialEq>(mut parts: impl Iterator<Item = T>) -> bool {
    let first = parts.next();
    parts.all(|part| Some(&part) == first.as_ref())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn weights_are_what_a_trainer_does(spec in common::specs(), rows in rows(), seed in 0..97_u32) {
        let batch = batch(&rows);
        let weights = TokenWeights::new(&spec, &batch.layout());
        let predictions: Vec<_> = batch.predictions().collect();
        let any = |index: usize| Fraction::new((u32::try_from(index).unwrap() * 89 + seed).into(), 97.into());
        let losses: Vec<Fraction> = (0..predictions.len()).map(any).collect();
        let Some(loss) = trainer(&spec, &rows, &losses) else {
            let error = weights.unwrap_err();
            prop_assert_eq!(error.nan, spec.empty == EmptyPolicy::Nan);
            return Ok(());
        };
        let weights = weights.unwrap();
        let weight = |index: usize| {
            let p = predictions[index];
            if p.supervised { weights.of_sequence(p.sequence).clone() } else { Fraction::zero() }
        };
        prop_assert_eq!(losses.iter().enumerate().map(|(index, loss)| weight(index) * loss).sum::<Fraction>(), loss);
        // Token by token: the loss when one token loss is 1 and all others are 0.
        for index in 0..predictions.len() {
            let mut losses = vec![Fraction::zero(); predictions.len()];
            losses[index] = Fraction::one();
            prop_assert_eq!(Some(weight(index)), trainer(&spec, &rows, &losses));
        }
    }

    #[test]
    fn weights_per_prediction_are_in_the_canonical_order_and_rounded_once(spec in common::specs(), rows in rows()) {
        let batch = batch(&rows);
        let Ok(weights) = TokenWeights::new(&spec, &batch.layout()) else { return Ok(()) };
        let mut expected = Vec::new();
        for (index, row) in rows.iter().flatten().flatten().enumerate() {
            let weight = weights.of_sequence(index).to_f64().unwrap();
            expected.extend(row[1..].iter().map(|&given| if given { weight } else { 0.0 }));
        }
        prop_assert_eq!(weights.per_prediction(&batch), expected);
    }

    #[test]
    fn weights_sum_to_what_the_loss_is_when_every_token_loss_is_one(rows in rows()) {
        let layout = batch(&rows).layout();
        let (tokens, sequences) = counts(&layout);
        let total = |spec: &LossSpec| weights(spec, &layout).total();
        let share = |full: Vec<bool>| whole(full.iter().filter(|full| **full).count()) / whole(full.len());
        let full = |micro_batch: &[SequenceShape]| micro_batch.iter().any(|s| s.supervised > 0);
        prop_assert_eq!(total(&LossSpec::sum()), tokens.clone());
        prop_assert_eq!(total(&LossSpec::batch_mean()), &tokens / &sequences);
        prop_assert_eq!(total(&LossSpec::token_mean()), share(vec![layout.supervised() > 0]));
        prop_assert_eq!(
            total(&LossSpec::sequence_mean()),
            share(layout.sequences().map(|s| s.supervised > 0).collect())
        );
        let ranks: Vec<Fraction> =
            layout.ranks().iter().map(|rank| share(rank.iter().map(|m| full(m)).collect())).collect();
        let ranks = ranks.iter().sum::<Fraction>() / whole(ranks.len());
        prop_assert_eq!(total(&LossSpec::naive_accumulated_mean()), ranks);
        prop_assert_eq!(
            total(&LossSpec::forgotten_division()),
            whole(layout.micro_batches().filter(|m| full(m)).count())
        );
        prop_assert_eq!(
            total(&LossSpec::naive_data_parallel()),
            share(layout.ranks().iter().map(|rank| rank.iter().any(|m| full(m))).collect())
        );
    }

    #[test]
    fn sums_and_means_are_in_exact_ratios(rows in rows()) {
        let layout = batch(&rows).layout();
        let (tokens, sequences) = counts(&layout);
        let ratio = |numerator: LossSpec, denominator: LossSpec| {
            WeightRatio::between(&weights(&numerator, &layout), &weights(&denominator, &layout))
        };
        let mean = LossSpec::token_mean;
        if layout.supervised() == 0 {
            prop_assert_eq!(ratio(LossSpec::sum(), mean()), WeightRatio::Nothing);
            return Ok(());
        }
        prop_assert_eq!(ratio(LossSpec::sum(), mean()), WeightRatio::Uniform(tokens.clone()));
        prop_assert_eq!(ratio(LossSpec::batch_mean(), mean()), WeightRatio::Uniform(tokens / &sequences));
        prop_assert_eq!(ratio(LossSpec::sum(), LossSpec::batch_mean()), WeightRatio::Uniform(sequences));
        prop_assert_eq!(
            ratio(mean(), LossSpec::averaging_not_undone()),
            WeightRatio::Uniform(whole(layout.ranks().len()))
        );
        if all_equal(layout.ranks().iter().map(Vec::len)) {
            prop_assert_eq!(
                ratio(LossSpec::forgotten_division(), LossSpec::naive_accumulated_mean()),
                WeightRatio::Uniform(whole(layout.micro_batches().count()))
            );
        }
    }

    #[test]
    fn a_ratio_is_uniform_or_spans_the_ratios_of_all_tokens(
        rows in rows(),
        numerator in common::specs(),
        denominator in common::specs(),
    ) {
        let layout = batch(&rows).layout();
        let of = |spec| TokenWeights::new(spec, &layout);
        let (Ok(numerator), Ok(denominator)) = (of(&numerator), of(&denominator)) else { return Ok(()) };
        let pairs = numerator.sequences().zip(denominator.sequences());
        let ratios: Vec<_> = pairs.filter(|((_, tokens), _)| *tokens > 0).map(|((n, _), (d, _))| n / d).collect();
        let expected = match (ratios.iter().min(), ratios.iter().max()) {
            (Some(min), Some(max)) if min == max => WeightRatio::Uniform(min.clone()),
            (Some(min), Some(max)) => WeightRatio::Varies { min: min.clone(), max: max.clone() },
            _ => WeightRatio::Nothing,
        };
        prop_assert_eq!(WeightRatio::between(&numerator, &denominator), expected);
    }

    #[test]
    fn means_coincide_exactly_where_the_counts_are_equal(rows in full_rows()) {
        let layout = batch(&rows).layout();
        let tokens = |micro_batch: &Vec<SequenceShape>| micro_batch.iter().map(|s| s.supervised).sum::<usize>();
        let mean = weights(&LossSpec::token_mean(), &layout);
        let is_the_mean = |spec: LossSpec| WeightRatio::between(&weights(&spec, &layout), &mean).is_one();
        prop_assert_eq!(
            is_the_mean(LossSpec::sequence_mean()),
            all_equal(layout.sequences().map(|s| s.supervised))
        );
        prop_assert_eq!(
            is_the_mean(LossSpec::naive_accumulated_mean()),
            all_equal(layout.ranks().iter().flat_map(|rank| rank.iter().map(|m| rank.len() * tokens(m))))
        );
        prop_assert_eq!(
            is_the_mean(LossSpec::naive_data_parallel()),
            all_equal(layout.ranks().iter().map(|rank| rank.iter().map(tokens).sum::<usize>()))
        );
        prop_assert_eq!(is_the_mean(LossSpec::averaging_not_undone()), layout.ranks().len() == 1);
        prop_assert_eq!(is_the_mean(LossSpec::forgotten_division()), layout.micro_batches().count() == 1);
        prop_assert_eq!(is_the_mean(LossSpec::sum()), layout.supervised() == 1);
    }

    #[test]
    fn a_batch_with_every_sequence_twice_has_half_the_weights_under_every_mean(rows in rows(), spec in common::specs()) {
        let twice: Rows = rows
            .iter()
            .map(|rank| rank.iter().map(|m| m.iter().flat_map(|row| [row.clone(), row.clone()]).collect()).collect())
            .collect();
        let Ok(once) = TokenWeights::new(&spec, &batch(&rows).layout()) else { return Ok(()) };
        let twice = weights(&spec, &batch(&twice).layout());
        let factor = whole(if spec.reduction == Reduction::Sum { 1 } else { 2 });
        for (index, (weight, _)) in once.sequences().enumerate() {
            prop_assert_eq!(twice.of_sequence(2 * index) * &factor, weight.clone());
            prop_assert_eq!(twice.of_sequence(2 * index + 1) * &factor, weight.clone());
        }
    }
}

fn layout(ranks: &[&[&[usize]]]) -> Layout {
    let shapes = |m: &&[usize]| m.iter().map(|&length| SequenceShape::full(length)).collect();
    Layout::new(ranks.iter().map(|rank| rank.iter().map(shapes).collect()).collect()).unwrap()
}

fn fraction(numerator: i64, denominator: i64) -> Fraction {
    Fraction::new(numerator.into(), denominator.into())
}

#[test]
fn the_question_that_started_it() {
    let sequences = vec![64; 8192];
    let layout = layout(&[&[&sequences]]);
    assert_eq!(layout.supervised(), 516_096);
    assert_eq!(layout.predictions(), 516_096);
    let mean = weights(&LossSpec::token_mean(), &layout);
    assert_eq!(mean.of_sequence(8191), &fraction(1, 516_096));
    let counted = |counting| weights(&LossSpec { counting, ..LossSpec::token_mean() }, &layout);
    let before_shift = WeightRatio::between(&counted(Counting::BeforeShift), &mean);
    assert_eq!(before_shift, WeightRatio::Uniform(fraction(63, 64)));
    assert!(WeightRatio::between(&counted(Counting::AllPositions), &mean).is_one());
}

#[test]
fn every_row_of_the_table_of_semantics() {
    // Rank 0: micro-batches of 3 + 1 and 5 tokens; rank 1: of 2 and 9. N = 20, n = 5.
    let layout = layout(&[&[&[4, 2], &[6]], &[&[3], &[10]]]);
    let of = |spec: LossSpec| -> Vec<Fraction> {
        weights(&spec, &layout).sequences().map(|(weight, _)| weight.clone()).collect()
    };
    let ones_over = |denominators: [i64; 5]| denominators.map(|d| fraction(1, d)).to_vec();
    assert_eq!(of(LossSpec::sum()), ones_over([1, 1, 1, 1, 1]));
    assert_eq!(of(LossSpec::token_mean()), ones_over([20, 20, 20, 20, 20]));
    assert_eq!(of(LossSpec::sequence_mean()), ones_over([15, 5, 25, 10, 45]));
    assert_eq!(of(LossSpec::batch_mean()), ones_over([5, 5, 5, 5, 5]));
    assert_eq!(of(LossSpec::naive_accumulated_mean()), ones_over([16, 16, 20, 8, 36]));
    assert_eq!(of(LossSpec::forgotten_division()), ones_over([4, 4, 5, 2, 9]));
    assert_eq!(of(LossSpec::naive_data_parallel()), ones_over([18, 18, 18, 22, 22]));
    assert_eq!(of(LossSpec::averaging_not_undone()), ones_over([40, 40, 40, 40, 40]));
    let counted = |counting, spec| of(LossSpec { counting, ..spec });
    assert_eq!(counted(Counting::BeforeShift, LossSpec::token_mean()), ones_over([25, 25, 25, 25, 25]));
    assert_eq!(counted(Counting::BeforeShift, LossSpec::sequence_mean()), ones_over([20, 10, 30, 15, 50]));
    assert_eq!(counted(Counting::AllPositions, LossSpec::token_mean()), ones_over([45, 45, 45, 45, 45]));
    assert_eq!(counted(Counting::AllPositions, LossSpec::forgotten_division()), ones_over([6, 6, 5, 2, 9]));
}

#[test]
fn counting_before_the_shift_is_invisible_when_first_labels_are_ignored() {
    let masked = SequenceShape { first_label: false, ..SequenceShape::full(9) };
    let layout = Layout::new(vec![vec![vec![masked, masked]]]).unwrap();
    let before_shift = LossSpec { counting: Counting::BeforeShift, ..LossSpec::token_mean() };
    assert_eq!(weights(&before_shift, &layout), weights(&LossSpec::token_mean(), &layout));
}

#[test]
fn empty_groups_follow_the_policy() {
    // Sequence 1, micro-batch 1 and rank 1 are empty. N = 4, n = 5.
    let layout = layout(&[&[&[4, 1, 2], &[1]], &[&[1]]]);
    let of = |spec: LossSpec, empty| TokenWeights::new(&LossSpec { empty, ..spec }, &layout);
    let first = |spec, empty| of(spec, empty).unwrap().of_sequence(0).clone();
    let (counted, skipped) = (EmptyPolicy::ZeroCounted, EmptyPolicy::ZeroSkipped);
    assert_eq!(first(LossSpec::sequence_mean(), counted), fraction(1, 5 * 3));
    assert_eq!(first(LossSpec::sequence_mean(), skipped), fraction(1, 2 * 3));
    assert_eq!(first(LossSpec::batch_mean(), counted), fraction(1, 5));
    assert_eq!(first(LossSpec::batch_mean(), skipped), fraction(1, 2));
    assert_eq!(first(LossSpec::naive_accumulated_mean(), counted), fraction(1, 2 * 2 * 4));
    assert_eq!(first(LossSpec::naive_accumulated_mean(), skipped), fraction(1, 4));
    assert_eq!(first(LossSpec::naive_data_parallel(), counted), fraction(1, 2 * 4));
    assert_eq!(first(LossSpec::naive_data_parallel(), skipped), fraction(1, 4));
    for (empty, nan) in [(EmptyPolicy::Nan, true), (EmptyPolicy::Error, false)] {
        let rejected = |spec| of(spec, empty).unwrap_err();
        assert_eq!(rejected(LossSpec::sequence_mean()), EmptyGroup { group: Group::Sequence(1), nan });
        assert_eq!(rejected(LossSpec::forgotten_division()), EmptyGroup { group: Group::MicroBatch(1), nan });
        assert_eq!(rejected(LossSpec::naive_data_parallel()), EmptyGroup { group: Group::Rank(1), nan });
        // Nothing is averaged over these groups, so nothing is undefined.
        assert_eq!(first(LossSpec::sum(), empty), fraction(1, 1));
        assert_eq!(first(LossSpec::batch_mean(), empty), fraction(1, 5));
        assert_eq!(first(LossSpec::token_mean(), empty), fraction(1, 4));
    }
    let error = of(LossSpec::sequence_mean(), EmptyPolicy::Nan).unwrap_err().to_string();
    assert!(error.starts_with("sequence 1 has no supervised token, so its mean is NaN"), "{error}");
}

#[test]
fn a_batch_without_a_supervised_token_has_no_mean() {
    let layout = layout(&[&[&[1, 1]]]);
    let mean = |empty| TokenWeights::new(&LossSpec { empty, ..LossSpec::token_mean() }, &layout);
    assert!(mean(EmptyPolicy::ZeroCounted).unwrap().total().is_zero());
    assert!(mean(EmptyPolicy::ZeroSkipped).unwrap().total().is_zero());
    assert_eq!(mean(EmptyPolicy::Error).unwrap_err(), EmptyGroup { group: Group::Batch, nan: false });
}

#[test]
fn counts_that_are_no_layout_are_refused() {
    let one = |shape| Layout::new(vec![vec![vec![shape]]]).unwrap_err();
    assert_eq!(Layout::new(vec![]).unwrap_err(), LayoutError::Empty { group: "global batch" });
    assert_eq!(Layout::new(vec![vec![]]).unwrap_err(), LayoutError::Empty { group: "rank" });
    assert_eq!(Layout::new(vec![vec![vec![]]]).unwrap_err(), LayoutError::Empty { group: "micro-batch" });
    assert_eq!(one(SequenceShape::full(0)), LayoutError::Empty { group: "sequence" });
    let crowded = SequenceShape { supervised: 4, ..SequenceShape::full(4) };
    assert_eq!(one(crowded), LayoutError::TooManySupervised { positions: 4, supervised: 4 });
    let endless = SequenceShape::full(usize::MAX);
    assert_eq!(Layout::new(vec![vec![vec![endless, endless]]]).unwrap_err(), LayoutError::TooManyPositions);
    assert!(Layout::new(vec![vec![vec![endless]]]).is_ok());
}

#[test]
fn counts_as_large_as_they_come_do_not_overflow() {
    let long = SequenceShape::full(usize::MAX - 2);
    let layout = Layout::new(vec![vec![vec![long, SequenceShape::full(2)]]]).unwrap();
    let padded = LossSpec { counting: Counting::AllPositions, ..LossSpec::token_mean() };
    let expected = Fraction::one() / (whole(usize::MAX - 3) * whole(2));
    assert_eq!(weights(&padded, &layout).of_sequence(0), &expected);
}
