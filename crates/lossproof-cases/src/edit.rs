//! Changing batches: what a law compares a case with.

use lossproof_spec::{GlobalBatch, IGNORE_INDEX, MicroBatch, Rank, Sequence, SequenceFields};

/// The batch with the sequences of every micro-batch replaced; at least one must remain.
pub fn regroup(batch: &GlobalBatch, mut change: impl FnMut(&MicroBatch) -> Vec<Sequence>) -> GlobalBatch {
    let ranks = batch.ranks().iter().map(|rank| rank.micro_batches().iter().map(&mut change).collect());
    assemble(ranks.collect())
}

/// A batch from sequences by rank and micro-batch; no group may be empty.
pub fn assemble(ranks: Vec<Vec<Vec<Sequence>>>) -> GlobalBatch {
    let micro_batch = |m| MicroBatch::new(m).expect("invariant: a micro-batch has sequences");
    let rank = |r: Vec<_>| {
        Rank::new(r.into_iter().map(micro_batch).collect()).expect("invariant: a rank has micro-batches")
    };
    GlobalBatch::new(ranks.into_iter().map(rank).collect()).expect("invariant: a batch has ranks")
}

/// Sequences by rank and micro-batch.
pub fn disassemble(batch: &GlobalBatch) -> Vec<Vec<Vec<Sequence>>> {
    let rank = |rank: &Rank| rank.micro_batches().iter().map(|m| m.sequences().to_vec()).collect();
    batch.ranks().iter().map(rank).collect()
}

/// The sequence with its fields changed; `change` must keep them consistent.
pub fn edit(sequence: &Sequence, change: impl FnOnce(&mut SequenceFields)) -> Sequence {
    let mut fields = SequenceFields::from(sequence.clone());
    change(&mut fields);
    Sequence::from_fields(fields).expect("invariant: the change keeps the fields consistent")
}

/// Whether a label is one that is not ignored.
pub fn given(label: i64) -> bool {
    label != IGNORE_INDEX
}

/// Whether a sequence is one document without padding, its positions counted from zero.
pub fn plain(sequence: &Sequence) -> bool {
    sequence.segment_ids().iter().all(|&id| id == 1)
        && sequence.position_ids().iter().zip(0..).all(|(&id, position): (_, u32)| id == position)
}

/// A token or position id from an index.
#[expect(clippy::cast_possible_truncation, reason = "vocabularies and positions are counted in u32")]
pub fn id(index: usize) -> u32 {
    index as u32
}
