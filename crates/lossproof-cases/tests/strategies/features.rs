//! What a case may have.

use lossproof_cases::Case;
use lossproof_spec::{IGNORE_INDEX, LossSpec, Sequence, SequenceShape, TokenWeights, WeightRatio};
use std::collections::HashMap;

pub(crate) fn differ(case: &Case, one: &LossSpec, other: &LossSpec) -> bool {
    let layout = case.batch.layout();
    let weights = |spec| TokenWeights::new(spec, &layout).expect("empty groups count zero");
    let ratio = WeightRatio::between(&weights(one), &weights(other));
    ratio != WeightRatio::Nothing && !ratio.is_one()
}

pub(crate) fn is_empty<'a>(sequences: impl IntoIterator<Item = &'a SequenceShape>) -> bool {
    sequences.into_iter().all(|sequence| sequence.supervised == 0)
}

pub(crate) fn any_sequence(case: &Case, holds: impl Fn(&Sequence) -> bool) -> bool {
    case.batch.sequences().any(holds)
}

pub(crate) fn is_packed(sequence: &Sequence) -> bool {
    sequence.segment_ids().contains(&2)
}

pub(crate) fn is_padded_left(sequence: &Sequence) -> bool {
    sequence.segment_ids()[0] == 0
}

pub(crate) fn is_padded_right(sequence: &Sequence) -> bool {
    sequence.segment_ids().last() == Some(&0)
}

/// Whether an ignored label stands between two supervised ones of one document.
pub(crate) fn has_hole(sequence: &Sequence) -> bool {
    let supervised: Vec<_> =
        (0..sequence.len() - 1).filter(|&position| sequence.supervises(position)).collect();
    let gap = |pair: &[usize]| pair[1] > pair[0] + 1;
    supervised
        .windows(2)
        .any(|pair| gap(pair) && sequence.segment_ids()[pair[0]] == sequence.segment_ids()[pair[1]])
}

/// Whether the first prediction is ignored and a later one is not.
pub(crate) fn has_prompt(sequence: &Sequence) -> bool {
    !is_packed(sequence) && !is_padded_left(sequence) && sequence.supervised() > 0 && !sequence.supervises(0)
}

/// Whether the last prediction is ignored, without being padding, and an earlier one is not.
pub(crate) fn has_ignored_suffix(sequence: &Sequence) -> bool {
    sequence.supervised() > 0 && sequence.labels().last() == Some(&IGNORE_INDEX) && !is_padded_right(sequence)
}

/// Whether the last token is ignored and an equal one is supervised: masking by value would ignore both.
pub(crate) fn pads_with_a_supervised_token(sequence: &Sequence) -> bool {
    let last = sequence.len() - 1;
    let padding = sequence.input_ids()[last];
    sequence.labels()[last] == IGNORE_INDEX && sequence.labels()[1..].contains(&i64::from(padding))
}

pub(crate) fn most_equal_tokens(sequence: &Sequence) -> usize {
    let mut counts = HashMap::new();
    let documents =
        sequence.input_ids().iter().zip(sequence.segment_ids()).filter(|(_, segment)| **segment > 0);
    documents.for_each(|(token, _)| *counts.entry(token).or_insert(0) += 1);
    counts.into_values().max().unwrap_or(0)
}

pub(crate) fn has_uneven_upstream(case: &Case) -> bool {
    let weights = case.upstream_weights();
    let supervised = case.batch.predictions().zip(weights).filter(|(prediction, _)| prediction.supervised);
    let mut weights = supervised.map(|(_, weight)| weight.to_bits());
    let first = weights.next();
    weights.any(|weight| Some(weight) != first)
}
