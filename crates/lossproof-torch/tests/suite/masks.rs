//! What must have no influence.

use crate::support::{
    accumulate, assert_close, assert_combination, evaluate, loaded, norm, picos, sequence, together,
};
use lossproof_spec::{Dtype, GlobalBatch, IGNORE_INDEX, LossSpec, Sequence, SequenceFields};
use lossproof_torch::Gpt2Config;

/// Documents packed into one sequence; padding is a document of `None` with its token.
fn packed(documents: &[Option<&Sequence>], padding: &[u32]) -> Sequence {
    let mut fields = SequenceFields::default();
    for (number, document) in (1..).zip(documents) {
        let Some(document) = document else {
            fields.input_ids.extend(padding);
            fields.labels.extend(padding.iter().map(|_| IGNORE_INDEX));
            fields.segment_ids.extend(padding.iter().map(|_| 0));
            fields.position_ids.extend(padding.iter().map(|_| 3));
            continue;
        };
        fields.input_ids.extend(document.input_ids());
        // Nothing predicts the first token of a document.
        fields.labels.push(IGNORE_INDEX);
        fields.labels.extend(&document.labels()[1..]);
        fields.segment_ids.extend(vec![number; document.len()]);
        fields.position_ids.extend(document.position_ids());
    }
    Sequence::from_fields(fields).unwrap()
}

/// Asserts that the loss and gradient of `whole` are the sums over `parts`, each in a batch of its own.
fn assert_is_sum_of(whole: &Sequence, beside: Option<&Sequence>, parts: &[&Sequence]) {
    for config in picos() {
        let mut subject = loaded(&config, Dtype::F64);
        let sum = LossSpec::sum();
        let separate: Vec<_> = parts
            .iter()
            .map(|&part| accumulate(&mut subject, &sum, &GlobalBatch::single(part.clone())))
            .collect();
        let batch = together([whole].into_iter().chain(beside).cloned().collect());
        let (seen, gradient) = accumulate(&mut subject, &sum, &batch);
        let losses: Vec<f64> =
            separate.iter().flat_map(|(seen, _)| seen.token_losses.clone().unwrap()).collect();
        assert_close(&seen.token_losses.unwrap(), &losses, norm(&losses), config.name());
        let gradients: Vec<_> = separate.into_iter().map(|(_, gradient)| gradient).collect();
        assert_combination(&gradient, &vec![1.0; parts.len()], &gradients, config.name());
    }
}

#[test]
fn a_longer_neighbour_changes_nothing() {
    let (short, long) = (sequence(1, 4, 0), sequence(2, 15, 1));
    assert_is_sum_of(&short, Some(&long), &[&short, &long]);
}

#[test]
fn packed_documents_are_separate_documents() {
    let documents = [sequence(1, 4, 0), sequence(2, 7, 2), sequence(3, 2, 0)];
    let [a, b, c] = &documents;
    assert_is_sum_of(&packed(&[Some(a), Some(b), Some(c)], &[]), None, &[a, b, c]);
}

#[test]
fn padding_left_between_and_right_changes_nothing() {
    let (a, b) = (sequence(1, 4, 0), sequence(2, 5, 2));
    assert_is_sum_of(&packed(&[None, Some(&a), None, Some(&b), None], &[7, 9]), None, &[&a, &b]);
}

#[test]
fn later_tokens_change_nothing_earlier() {
    let tokens = |last: u32| Sequence::new(vec![3, 14, 15, 9, last], vec![IGNORE_INDEX; 5]).unwrap();
    for config in picos() {
        let mut subject = loaded(&config, Dtype::F64);
        let first = evaluate(&mut subject, &GlobalBatch::single(tokens(26)));
        let second = evaluate(&mut subject, &GlobalBatch::single(tokens(53)));
        assert_eq!(first[..3], second[..3]);
        assert!((first[3] - second[3]).abs() > 1e-3);
    }
}

#[test]
fn position_ids_choose_the_rows_of_the_position_embedding() {
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F64);
    let fields = SequenceFields {
        input_ids: vec![1, 2, 3],
        labels: vec![1, 2, 3],
        position_ids: vec![5, 0, 11],
        ..SequenceFields::default()
    };
    let batch = GlobalBatch::single(Sequence::from_fields(fields).unwrap());
    let (_, gradient) = accumulate(&mut subject, &LossSpec::sum(), &batch);
    let used: Vec<usize> = gradient["wpe.weight"]
        .to_f64()
        .chunks(8)
        .enumerate()
        .filter_map(|(row, values)| (norm(values) > 0.0).then_some(row))
        .collect();
    // The last position predicts nothing and is seen by nothing that does.
    assert_eq!(used, [0, 5]);
}

#[test]
fn evaluating_in_parts_is_evaluating_at_once() {
    // 1000 sequences of 16 tokens of gpt2-pico are 1 024 000 logits, 17 times that exceeds what is evaluated at once.
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F64);
    let few: Vec<_> = (0..100).map(|seed| sequence(seed, 2 + seed % 15, 0)).collect();
    let once = evaluate(&mut subject, &together(few.clone()));
    let many = few.iter().cycle().take(17_000).cloned().collect();
    let parts = evaluate(&mut subject, &together(many));
    let expected: Vec<f64> = once.iter().cycle().take(parts.len()).copied().collect();
    assert_eq!(parts.len(), 170 * once.len());
    assert_close(&parts, &expected, norm(&expected), "token losses");
}
