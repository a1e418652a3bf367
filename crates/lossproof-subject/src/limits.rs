//! What batches a subject takes.

use crate::{Count, SubjectError};
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, Sequence};

/// What a subject can take; batches are made inside these limits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Token ids are below this.
    pub vocabulary: usize,
    /// Position ids are below this.
    pub positions: usize,
    /// Positions of a sequence, padding included.
    pub lengths: Count,
    /// Whether labels may be ignored.
    pub ignore_index: bool,
    /// Whether a label may be another token than the one at its position. A trainer that makes its labels out
    /// of its tokens takes none that are.
    pub free_labels: bool,
    /// Whether a sequence may be padded and hold several documents: `segment_ids` other than 1,
    /// `position_ids` other than 0, 1, 2, ….
    pub segments: bool,
    /// Sequences of a micro-batch.
    pub sequences: Count,
    /// Micro-batches of a rank: those of one optimizer step. A trainer built for so many takes exactly those.
    pub micro_batches: Count,
    /// Ranks of a batch.
    pub ranks: Count,
}

impl Limits {
    /// A subject that takes everything a model with this vocabulary and this many positions can.
    #[must_use]
    pub fn of_model(vocabulary: usize, positions: usize) -> Self {
        Self {
            vocabulary,
            positions,
            lengths: Count::up_to(positions),
            ignore_index: true,
            free_labels: true,
            segments: true,
            sequences: Count::ANY,
            micro_batches: Count::ANY,
            ranks: Count::ANY,
        }
    }

    /// Checks a batch against the limits.
    ///
    /// # Errors
    /// [`SubjectError::Limit`] naming the first sequence, position and value outside them.
    pub fn check(&self, batch: &GlobalBatch) -> Result<(), SubjectError> {
        self.check_groups(batch)?;
        let outside = |value: u32, limit: usize| usize::try_from(value).is_ok_and(|value| value >= limit);
        for (sequence, tokens) in batch.sequences().enumerate() {
            let error = |what, position, value: usize, limit| SubjectError::Limit {
                what,
                sequence,
                position,
                value,
                limit,
            };
            within(self.lengths, tokens.len(), || format!("positions of sequence {sequence}"))?;
            self.check_kind(sequence, tokens)?;
            let fields = [
                ("token id", tokens.input_ids(), self.vocabulary),
                ("target", tokens.targets(), self.vocabulary),
                ("position id", tokens.position_ids(), self.positions),
            ];
            for (what, values, limit) in fields {
                if let Some(position) = values.iter().position(|&value| outside(value, limit)) {
                    return Err(error(what, position, values[position] as usize, limit));
                }
            }
        }
        Ok(())
    }

    fn check_groups(&self, batch: &GlobalBatch) -> Result<(), SubjectError> {
        within(self.ranks, batch.ranks().len(), || "ranks".to_owned())?;
        for (rank, own) in batch.ranks().iter().enumerate() {
            within(self.micro_batches, own.micro_batches().len(), || {
                format!("micro-batches of rank {rank}")
            })?;
        }
        for (index, micro_batch) in batch.micro_batches().enumerate() {
            let found = micro_batch.sequences().len();
            within(self.sequences, found, || format!("sequences of micro-batch {index}"))?;
        }
        Ok(())
    }

    fn check_kind(&self, sequence: usize, tokens: &Sequence) -> Result<(), SubjectError> {
        let refuse = |what| Err(SubjectError::Kind { what, sequence });
        if !self.ignore_index && tokens.labels().contains(&IGNORE_INDEX) {
            return refuse("has ignored labels");
        }
        let mut labels = tokens.labels().iter().zip(tokens.input_ids());
        if !self.free_labels && labels.any(|(&label, &id)| label != IGNORE_INDEX && label != i64::from(id)) {
            return refuse("has labels that are not its tokens");
        }
        let counts_up = |(position, &id): (usize, &u32)| usize::try_from(id) == Ok(position);
        let plain = tokens.segment_ids().iter().all(|&id| id == 1)
            && tokens.position_ids().iter().enumerate().all(counts_up);
        if !self.segments && !plain {
            return refuse("is padded or packed");
        }
        Ok(())
    }
}

/// Holds a number of parts to how many there may be.
fn within(takes: Count, found: usize, what: impl FnOnce() -> String) -> Result<(), SubjectError> {
    if takes.contains(found) { Ok(()) } else { Err(SubjectError::Number { what: what(), found, takes }) }
}
