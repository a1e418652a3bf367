//! Sequences as a training loop hands them to a trainer.

use crate::SamplePlace;
use lossproof_spec::{BatchError, GlobalBatch, IGNORE_INDEX, MicroBatch, Sequence, SequenceFields};

/// One sequence as a loop hands it to a trainer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Tokens and labels.
    pub sequence: Sequence,
    /// Which sample of which epoch this is: what dropout depends on.
    pub place: SamplePlace,
    /// Positions from the start that every position of their document sees, later ones too: 0 for a causal
    /// model, the length of the source for a prefix language model, all for a masked one.
    pub prefix: usize,
}

/// The samples of one forward and backward pass. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingBatch {
    micro_batch: MicroBatch,
    places: Vec<SamplePlace>,
    prefixes: Vec<usize>,
}

impl TrainingBatch {
    /// A micro-batch of these samples.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(samples: impl IntoIterator<Item = Sample>) -> Result<Self, BatchError> {
        let (mut sequences, mut places, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
        for sample in samples {
            sequences.push(sample.sequence);
            places.push(sample.place);
            prefixes.push(sample.prefix);
        }
        Ok(Self { micro_batch: MicroBatch::new(sequences)?, places, prefixes })
    }

    /// The sequences, one per row.
    #[must_use]
    pub fn micro_batch(&self) -> &MicroBatch {
        &self.micro_batch
    }

    /// The same as the only micro-batch of a step.
    #[must_use]
    pub fn global(&self) -> GlobalBatch {
        GlobalBatch::of_micro_batch(self.micro_batch.clone())
    }

    /// Which sample each row is.
    #[must_use]
    pub fn places(&self) -> &[SamplePlace] {
        &self.places
    }

    /// Of each row, how many positions from the start every position sees.
    #[must_use]
    pub fn prefixes(&self) -> &[usize] {
        &self.prefixes
    }

    /// Number of supervised tokens.
    #[must_use]
    pub fn supervised(&self) -> usize {
        self.micro_batch.sequences().iter().map(Sequence::supervised).sum()
    }
}

impl Sample {
    /// A sample whose labels stand where they are predicted, as a masked language model has them.
    ///
    /// A model predicts the token *after* a position. So the labels are one position later, and a last position is
    /// added for that: a document of its own that nothing sees.
    ///
    /// # Errors
    /// When there is no token, or not one label for each.
    pub fn masked(mut input_ids: Vec<u32>, labels: Vec<i64>, place: SamplePlace) -> Result<Self, BatchError> {
        let prefix = input_ids.len();
        let last = input_ids.last().copied().unwrap_or_default();
        let mut segment_ids = vec![1; prefix];
        let mut position_ids: Vec<u32> = (0..).take(prefix).collect();
        input_ids.push(last);
        segment_ids.push(2);
        position_ids.push(0);
        let labels = std::iter::once(IGNORE_INDEX).chain(labels).collect();
        let fields = SequenceFields { input_ids, labels, segment_ids, position_ids, targets: Vec::new() };
        Ok(Self { sequence: Sequence::from_fields(fields)?, place, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The label of a masked token is scored against the prediction made at its own position.
    #[test]
    fn a_masked_sample_is_scored_where_it_is_masked() {
        let place = SamplePlace { epoch: 1, sample: 3 };
        let sample = Sample::masked(vec![7, 4, 7], vec![3, IGNORE_INDEX, 5], place).expect("tokens");
        assert_eq!(sample.sequence.supervised(), 2);
        assert!(sample.sequence.supervises(0) && sample.sequence.supervises(2));
        assert_eq!(sample.sequence.segment_ids(), [1, 1, 1, 2]);
    }
}
