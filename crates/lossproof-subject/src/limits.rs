//! What batches a subject takes.

use crate::SubjectError;
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, Sequence};

/// What a subject can take; batches are made inside these limits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Token ids are below this.
    pub vocabulary: usize,
    /// Position ids are below this, and no sequence is longer.
    pub positions: usize,
    /// Whether every sequence must have exactly `positions` positions.
    pub fixed_length: bool,
    /// Whether labels may be ignored.
    pub ignore_index: bool,
    /// Whether a sequence may be padded and hold several documents: `segment_ids` other than 1, `position_ids` other than
    /// 0, 1, 2, ….
    pub segments: bool,
    /// The most sequences a micro-batch may have.
    pub sequences: usize,
    /// The most micro-batches a rank may have.
    pub micro_batches: usize,
    /// The most ranks a batch may have.
    pub ranks: usize,
}

impl Limits {
    /// A subject that takes everything a model with this vocabulary and this many positions can.
    #[must_use]
    pub fn of_model(vocabulary: usize, positions: usize) -> Self {
        Self {
            vocabulary,
            positions,
            fixed_length: false,
            ignore_index: true,
            segments: true,
            sequences: usize::MAX,
            micro_batches: usize::MAX,
            ranks: usize::MAX,
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
            if tokens.len() > self.positions {
                return Err(error("length", 0, tokens.len(), self.positions + 1));
            }
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
        let most = |what, found: Option<usize>, limit| match found {
            Some(found) if found > limit => Err(SubjectError::TooMany { what, found, limit }),
            _ => Ok(()),
        };
        most("ranks", Some(batch.ranks().len()), self.ranks)?;
        let micro_batches = batch.ranks().iter().map(|rank| rank.micro_batches().len());
        most("micro-batches of a rank", micro_batches.max(), self.micro_batches)?;
        let sequences = batch.micro_batches().map(|micro_batch| micro_batch.sequences().len());
        most("sequences of a micro-batch", sequences.max(), self.sequences)
    }

    fn check_kind(&self, sequence: usize, tokens: &Sequence) -> Result<(), SubjectError> {
        let refuse = |what| Err(SubjectError::Kind { what, sequence });
        if self.fixed_length && tokens.len() != self.positions {
            return refuse("is shorter than the fixed length");
        }
        if !self.ignore_index && tokens.labels().contains(&IGNORE_INDEX) {
            return refuse("has ignored labels");
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
