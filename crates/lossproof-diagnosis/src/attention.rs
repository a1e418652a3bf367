//! Who attends to whom: which inputs each token loss depends on.

use lossproof_spec::{Dtype, GlobalBatch, IGNORE_INDEX, Sequence, SequenceFields};
use lossproof_subject::{Limits, Subject, SubjectError};

/// One plain sequence, one with padding on both sides and two documents.
pub(super) fn sequences(limits: &Limits) -> Vec<Sequence> {
    let token =
        |index: usize| u32::try_from(1 + index % limits.vocabulary.saturating_sub(2).max(1)).unwrap_or(0);
    let tokens = |length: usize| -> Vec<u32> { (0..length).map(token).collect() };
    let labels = |tokens: &[u32]| tokens.iter().map(|&token| i64::from(token)).collect::<Vec<_>>();
    let plain = tokens(6);
    let packed = tokens(8);
    let mut fields = SequenceFields {
        labels: labels(&packed),
        targets: packed.clone(),
        input_ids: packed,
        segment_ids: vec![0, 1, 1, 1, 2, 2, 2, 0],
        position_ids: vec![0, 0, 1, 2, 0, 1, 2, 0],
    };
    for padding in [0, 1, 7] {
        fields.labels[padding] = IGNORE_INDEX;
    }
    let plain = Sequence::new(plain.clone(), labels(&plain));
    [plain, Sequence::from_fields(fields)].into_iter().flatten().collect()
}

/// Which inputs each token loss depends on; `None` where some are no numbers, or they are not one for each prediction.
pub(super) fn depends(
    subject: &mut dyn Subject,
    sequence: &Sequence,
    dtype: Dtype,
    limits: &Limits,
) -> Result<Option<Vec<Vec<bool>>>, SubjectError> {
    let mut evaluate = |sequence: Sequence| match subject.token_losses() {
        Some(losses) => losses.evaluate(&GlobalBatch::single(sequence)),
        None => Ok(Vec::new()),
    };
    let before = evaluate(sequence.clone())?;
    if before.len() + 1 != sequence.len() || before.iter().any(|loss| !loss.is_finite()) {
        return Ok(None);
    }
    // A loss that depends on an input moves by far more than rounding; one that does not moves by rounding at most.
    let moved = 256.0 * dtype.unit_roundoff();
    let mut by_input = Vec::new();
    for input in 0..sequence.len() {
        let mut fields = SequenceFields::from(sequence.clone());
        let old = fields.input_ids[input];
        // Another token; not one of the vocabulary's ends, where it has others.
        let tokens = u32::try_from(limits.vocabulary).unwrap_or(u32::MAX);
        let inner = (1..tokens.saturating_sub(1)).rev().find(|token| *token != old);
        let Some(token) = inner.or_else(|| (0..tokens).find(|token| *token != old)) else { return Ok(None) };
        fields.input_ids[input] = token;
        let Ok(other) = Sequence::from_fields(fields) else { return Ok(None) };
        let after = evaluate(other)?;
        if after.len() != before.len() || after.iter().any(|loss| !loss.is_finite()) {
            return Ok(None);
        }
        by_input.push(
            before
                .iter()
                .zip(&after)
                .map(|(a, b)| (a - b).abs() > moved * a.abs().max(1.0))
                .collect::<Vec<_>>(),
        );
    }
    let by_position = |position: usize| by_input.iter().map(|depends| depends[position]).collect();
    Ok(Some((0..sequence.len() - 1).map(by_position).collect()))
}
