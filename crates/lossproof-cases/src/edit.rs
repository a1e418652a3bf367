//! Changing batches: what a law compares a case with.

use lossproof_spec::{GlobalBatch, IGNORE_INDEX, MicroBatch, Rank, Sequence, SequenceFields};
use lossproof_subject::Limits;

/// The batch with the sequences of every micro-batch replaced; at least one must remain.
pub fn regroup(batch: &GlobalBatch, mut change: impl FnMut(&MicroBatch) -> Vec<Sequence>) -> GlobalBatch {
    let ranks = batch.ranks().iter().map(|rank| rank.micro_batches().iter().map(&mut change).collect());
    assemble(ranks.collect())
}

/// A batch from sequences by rank and micro-batch.
///
/// # Panics
/// When a group is empty.
#[must_use]
pub fn assemble(ranks: Vec<Vec<Vec<Sequence>>>) -> GlobalBatch {
    let micro_batch = |m| MicroBatch::new(m).expect("invariant: a micro-batch has sequences");
    let rank = |r: Vec<_>| {
        Rank::new(r.into_iter().map(micro_batch).collect()).expect("invariant: a rank has micro-batches")
    };
    GlobalBatch::new(ranks.into_iter().map(rank).collect()).expect("invariant: a batch has ranks")
}

/// Sequences by rank and micro-batch.
#[must_use]
pub fn disassemble(batch: &GlobalBatch) -> Vec<Vec<Vec<Sequence>>> {
    let rank = |rank: &Rank| rank.micro_batches().iter().map(|m| m.sequences().to_vec()).collect();
    batch.ranks().iter().map(rank).collect()
}

/// A sequence by itself: in as many copies as the smallest batch inside the limits has, one where they allow
/// it. All groups are alike, so that over whatever is averaged, all copies of a token together weigh what the token
/// weighs in one of them; a sum alone is as many times as large.
#[must_use]
pub fn alone(sequence: &Sequence, limits: &Limits) -> GlobalBatch {
    let micro_batch = vec![sequence.clone(); limits.sequences.least.max(1)];
    let rank = vec![micro_batch; limits.micro_batches.least.max(1)];
    assemble(vec![rank; limits.ranks.least.max(1)])
}

/// The first positions of a sequence, as many as this at most.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn cut_off(sequence: &Sequence, length: usize) -> Sequence {
    edit(sequence, |fields| {
        fields.input_ids.truncate(length);
        fields.labels.truncate(length);
        fields.segment_ids.truncate(length);
        fields.position_ids.truncate(length);
        fields.targets.truncate(length);
    })
}

/// The sequence with its fields changed; `change` must keep them consistent.
///
/// # Panics
/// When the change leaves fields that contradict each other.
pub fn edit(sequence: &Sequence, change: impl FnOnce(&mut SequenceFields)) -> Sequence {
    let mut fields = SequenceFields::from(sequence.clone());
    change(&mut fields);
    Sequence::from_fields(fields).expect("invariant: the change keeps the fields consistent")
}

/// A sequence with `left` positions of padding before it and `right` behind it, `filler` being the padding's token.
/// Behind padding nothing predicts the first token, so its label is ignored.
#[must_use]
pub fn padded(sequence: &Sequence, left: usize, right: usize, filler: u32) -> Sequence {
    edit(sequence, |fields| {
        for (front, count) in [(true, left), (false, right)] {
            for _ in 0..count {
                let at = if front { 0 } else { fields.input_ids.len() };
                fields.input_ids.insert(at, filler);
                fields.labels.insert(at, IGNORE_INDEX);
                fields.segment_ids.insert(at, 0);
                fields.position_ids.insert(at, 0);
                fields.targets.insert(at, filler);
            }
        }
        if left > 0 {
            fields.labels[left] = IGNORE_INDEX;
        }
    })
}

/// Two sequences as documents of one, unseen by each other. Nothing predicts the first token of the second, so its
/// label is ignored.
#[must_use]
pub fn packed(one: &Sequence, other: &Sequence) -> Sequence {
    let shift = one.segment_ids().iter().max().copied().unwrap_or(0);
    edit(one, |fields| {
        let other = SequenceFields::from(other.clone());
        let start = fields.labels.len();
        let shifted = |segment: u32| if segment == 0 { 0 } else { segment + shift };
        fields.input_ids.extend(other.input_ids);
        fields.labels.extend(other.labels);
        fields.segment_ids.extend(other.segment_ids.into_iter().map(shifted));
        fields.position_ids.extend(other.position_ids);
        fields.targets.extend(other.targets);
        fields.labels[start] = IGNORE_INDEX;
    })
}

/// The sequence with its fields changed, and its labels then brought in line: a label that is given is its
/// target, and one that padding says or is predicted from is ignored, since no trainer can score it.
///
/// # Panics
/// When `change` leaves fields of different lengths.
///
/// # Panics
/// When the change leaves fields that contradict each other.
pub fn edit_freely(sequence: &Sequence, change: impl FnOnce(&mut SequenceFields)) -> Sequence {
    edit(sequence, |fields| {
        change(fields);
        for at in 0..fields.labels.len() {
            let padding = |at: usize| fields.segment_ids[at] == 0;
            if padding(at) || at > 0 && padding(at - 1) {
                fields.labels[at] = IGNORE_INDEX;
            } else if given(fields.labels[at]) {
                fields.labels[at] = i64::from(fields.targets[at]);
            }
        }
    })
}

/// The sequence with other labels at every position but the first, which nothing is scored against. `label`
/// is asked with the fields as they were: a token to score the position before against, or `None` for a label
/// that is ignored.
pub fn relabel(
    sequence: &Sequence,
    mut label: impl FnMut(&SequenceFields, usize) -> Option<u32>,
) -> Sequence {
    edit_freely(sequence, |fields| {
        let before = fields.clone();
        for at in 1..before.labels.len() {
            match label(&before, at) {
                Some(token) => (fields.labels[at], fields.targets[at]) = (i64::from(token), token),
                None => fields.labels[at] = IGNORE_INDEX,
            }
        }
    })
}

/// The batch with a label wherever one can be scored.
#[must_use]
pub fn supervised_everywhere(batch: &GlobalBatch) -> GlobalBatch {
    batch.map_sequences(|sequence| relabel(sequence, |fields, at| Some(fields.targets[at])))
}

/// Whether a label is one that is not ignored.
#[must_use]
pub fn given(label: i64) -> bool {
    label != IGNORE_INDEX
}

/// Whether a sequence is one document without padding, its positions counted from zero.
#[must_use]
pub fn plain(sequence: &Sequence) -> bool {
    sequence.segment_ids().iter().all(|&id| id == 1)
        && sequence.position_ids().iter().zip(0..).all(|(&id, position): (_, u32)| id == position)
}

/// A token or position id from an index.
#[expect(clippy::cast_possible_truncation, reason = "vocabularies and positions are counted in u32")]
#[must_use]
pub fn id(index: usize) -> u32 {
    index as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded() -> Sequence {
        let fields = SequenceFields {
            input_ids: vec![9, 1, 2, 3, 9],
            labels: vec![IGNORE_INDEX, IGNORE_INDEX, 2, IGNORE_INDEX, IGNORE_INDEX],
            segment_ids: vec![0, 1, 1, 1, 0],
            position_ids: vec![0, 0, 1, 2, 0],
            targets: vec![9, 1, 2, 3, 9],
        };
        Sequence::from_fields(fields).expect("a sequence")
    }

    #[test]
    fn a_label_is_what_was_said_where_one_can_be_scored() {
        let asked = relabel(&padded(), |fields, at| given(fields.labels[at]).then_some(7));
        assert_eq!(asked.labels(), [IGNORE_INDEX, IGNORE_INDEX, 7, IGNORE_INDEX, IGNORE_INDEX]);
        assert_eq!(asked.targets(), [9, 1, 7, 3, 9]);
        let everywhere = supervised_everywhere(&GlobalBatch::single(padded()));
        let everywhere = everywhere.sequences().next().expect("one sequence").labels().to_vec();
        assert_eq!(everywhere, [IGNORE_INDEX, IGNORE_INDEX, 2, 3, IGNORE_INDEX]);
    }

    #[test]
    fn labels_follow_the_targets_and_the_padding() {
        let renamed = edit_freely(&padded(), |fields| fields.targets[2] = 5);
        assert_eq!(renamed.labels()[2], 5);
        let cut = edit_freely(&padded(), |fields| fields.segment_ids[1] = 0);
        assert_eq!(cut.labels()[2], IGNORE_INDEX, "it is predicted from padding now");
    }
}
