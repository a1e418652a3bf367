//! The global batch: everything one optimizer step sees, as ranks × micro-batches × sequences × positions.

use crate::layout::{Layout, SequenceShape};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The label that marks a position as not supervised, as in PyTorch's `cross_entropy(ignore_index=-100)`.
pub const IGNORE_INDEX: i64 = -100;

/// One row of a micro-batch, without padding unless its own `segment_ids` say so.
///
/// All five fields have one entry per position. Labels are *unshifted*, as Hugging Face takes them: the prediction made
/// at position `t` is scored against `labels[t + 1]`, so `l` positions make `l − 1` predictions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "SequenceFields", into = "SequenceFields")]
pub struct Sequence {
    // Shared: batches are copied far more often than sequences are changed.
    fields: Arc<SequenceFields>,
}

/// The fields of a [`Sequence`] before they are checked against each other; also its serialised form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SequenceFields {
    /// Token ids.
    pub input_ids: Vec<u32>,
    /// Unshifted labels; [`IGNORE_INDEX`] where nothing is supervised.
    pub labels: Vec<i64>,
    /// 0 for padding, otherwise the number of the packed document: a position attends to earlier positions of its own
    /// document alone. Empty means one document, 1 everywhere.
    #[serde(default)]
    pub segment_ids: Vec<u32>,
    /// Row of the position embedding. Empty means 0, 1, 2, ….
    #[serde(default)]
    pub position_ids: Vec<u32>,
    /// The token at every position even where the label is ignored. Empty means the label, or else the input token.
    #[serde(default)]
    pub targets: Vec<u32>,
}

impl Sequence {
    /// A single document: `labels` beside `input_ids`, positions counted from zero.
    ///
    /// # Errors
    /// When the fields contradict each other; see [`BatchError`].
    pub fn new(input_ids: Vec<u32>, labels: Vec<i64>) -> Result<Self, BatchError> {
        Self::from_fields(SequenceFields { input_ids, labels, ..SequenceFields::default() })
    }

    /// A sequence from all of its fields; empty optional fields get their defaults.
    ///
    /// # Errors
    /// When a field has another length than `input_ids`, a label is negative and not [`IGNORE_INDEX`], a supervised
    /// label differs from its target, or a supervised prediction is made from or about padding.
    pub fn from_fields(mut fields: SequenceFields) -> Result<Self, BatchError> {
        let length = fields.input_ids.len();
        if length == 0 {
            return Err(BatchError::Empty { what: "sequence", part: "position" });
        }
        check_length("labels", fields.labels.len(), length)?;
        if fields.segment_ids.is_empty() {
            fields.segment_ids = vec![1; length];
        }
        check_length("segment_ids", fields.segment_ids.len(), length)?;
        if fields.position_ids.is_empty() {
            fields.position_ids =
                (0..u32::try_from(length).map_err(|_| BatchError::TooLong { length })?).collect();
        }
        check_length("position_ids", fields.position_ids.len(), length)?;
        for (position, &label) in fields.labels.iter().enumerate() {
            if label != IGNORE_INDEX && u32::try_from(label).is_err() {
                return Err(BatchError::Label { position, label });
            }
        }
        if fields.targets.is_empty() {
            let target = |(&label, &token): (&i64, &u32)| u32::try_from(label).unwrap_or(token);
            fields.targets = fields.labels.iter().zip(&fields.input_ids).map(target).collect();
        }
        check_length("targets", fields.targets.len(), length)?;
        for (position, (&label, &target)) in fields.labels.iter().zip(&fields.targets).enumerate() {
            if label == IGNORE_INDEX {
                continue;
            }
            if label != i64::from(target) {
                return Err(BatchError::Target { position, label, target });
            }
            let from_padding = position > 0 && fields.segment_ids[position - 1] == 0;
            if fields.segment_ids[position] == 0 || from_padding {
                return Err(BatchError::SupervisedPadding { position });
            }
        }
        Ok(Self { fields: Arc::new(fields) })
    }

    /// Number of positions, `l`.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a sequence is never empty")]
    pub fn len(&self) -> usize {
        self.fields.input_ids.len()
    }

    /// Token ids, one per position.
    #[must_use]
    pub fn input_ids(&self) -> &[u32] {
        &self.fields.input_ids
    }

    /// Unshifted labels, [`IGNORE_INDEX`] where nothing is supervised.
    #[must_use]
    pub fn labels(&self) -> &[i64] {
        &self.fields.labels
    }

    /// Document number per position, 0 for padding.
    #[must_use]
    pub fn segment_ids(&self) -> &[u32] {
        &self.fields.segment_ids
    }

    /// Row of the position embedding, per position.
    #[must_use]
    pub fn position_ids(&self) -> &[u32] {
        &self.fields.position_ids
    }

    /// The token at every position, also where the label is ignored.
    #[must_use]
    pub fn targets(&self) -> &[u32] {
        &self.fields.targets
    }

    /// Whether the prediction made at `position` is scored: `position + 1` has a label that is not ignored.
    #[must_use]
    pub fn supervises(&self, position: usize) -> bool {
        self.fields.labels.get(position + 1).is_some_and(|&label| label != IGNORE_INDEX)
    }

    /// Number of supervised tokens, `l_i`.
    #[must_use]
    pub fn supervised(&self) -> usize {
        (0..self.len()).filter(|&position| self.supervises(position)).count()
    }

    /// The same sequence with only those predictions supervised for which `keep` answers true.
    #[must_use]
    pub fn supervise_only(&self, mut keep: impl FnMut(usize) -> bool) -> Self {
        let mut fields = SequenceFields::clone(&self.fields);
        for position in 0..self.len().saturating_sub(1) {
            if !keep(position) {
                fields.labels[position + 1] = IGNORE_INDEX;
            }
        }
        Self { fields: Arc::new(fields) }
    }

    fn shape(&self) -> SequenceShape {
        SequenceShape {
            positions: self.len(),
            supervised: self.supervised(),
            first_label: self.fields.labels[0] != IGNORE_INDEX,
        }
    }
}

fn check_length(field: &'static str, found: usize, expected: usize) -> Result<(), BatchError> {
    if found == expected { Ok(()) } else { Err(BatchError::Length { field, found, expected }) }
}

impl TryFrom<SequenceFields> for Sequence {
    type Error = BatchError;

    fn try_from(fields: SequenceFields) -> Result<Self, BatchError> {
        Self::from_fields(fields)
    }
}

impl From<Sequence> for SequenceFields {
    fn from(sequence: Sequence) -> Self {
        Arc::unwrap_or_clone(sequence.fields)
    }
}

/// The sequences of one forward and backward pass. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<Sequence>", into = "Vec<Sequence>")]
pub struct MicroBatch(Vec<Sequence>);

/// The micro-batches one rank accumulates before a step. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<MicroBatch>", into = "Vec<MicroBatch>")]
pub struct Rank(Vec<MicroBatch>);

/// Everything one optimizer step sees: ranks × micro-batches × sequences × positions. Never empty.
///
/// Sequences are ragged: padding to the width of a micro-batch is the trainer's business and must not be visible in
/// what it computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<Rank>", into = "Vec<Rank>")]
pub struct GlobalBatch(Vec<Rank>);

macro_rules! non_empty_group {
    ($group:ident of $part:ident, $what:literal, $parts:literal, $accessor:ident) => {
        impl $group {
            #[doc = concat!("A ", $what, " from its parts.\n\n# Errors\nWhen there is no ", $parts, ".")]
            pub fn new(parts: Vec<$part>) -> Result<Self, BatchError> {
                if parts.is_empty() {
                    return Err(BatchError::Empty { what: $what, part: $parts });
                }
                Ok(Self(parts))
            }

            #[doc = concat!("Every ", $parts, " of the ", $what, ", in order; at least one.")]
            #[must_use]
            pub fn $accessor(&self) -> &[$part] {
                &self.0
            }
        }

        impl TryFrom<Vec<$part>> for $group {
            type Error = BatchError;

            fn try_from(parts: Vec<$part>) -> Result<Self, BatchError> {
                Self::new(parts)
            }
        }

        impl From<$group> for Vec<$part> {
            fn from(group: $group) -> Self {
                group.0
            }
        }
    };
}

non_empty_group!(MicroBatch of Sequence, "micro-batch", "sequence", sequences);
non_empty_group!(Rank of MicroBatch, "rank", "micro-batch", micro_batches);
non_empty_group!(GlobalBatch of Rank, "global batch", "rank", ranks);

/// One prediction of a global batch: made at `position` of a sequence, about the token at `position + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// Index of the sequence in the order of [`GlobalBatch::sequences`].
    pub sequence: usize,
    /// Position that makes the prediction.
    pub position: usize,
    /// The token that actually follows.
    pub target: u32,
    /// Whether the prediction is scored.
    pub supervised: bool,
}

impl GlobalBatch {
    /// All sequences in the canonical order: by rank, then micro-batch, then row.
    pub fn sequences(&self) -> impl Iterator<Item = &Sequence> {
        self.micro_batches().flat_map(MicroBatch::sequences)
    }

    /// All micro-batches, by rank.
    pub fn micro_batches(&self) -> impl Iterator<Item = &MicroBatch> {
        self.0.iter().flat_map(Rank::micro_batches)
    }

    /// Every prediction in the canonical order, the ignored ones included: `l − 1` per sequence. Per-token arrays that
    /// belong to a batch are in this order.
    pub fn predictions(&self) -> impl Iterator<Item = Prediction> {
        self.sequences().enumerate().flat_map(|(index, sequence)| {
            (0..sequence.len() - 1).map(move |position| Prediction {
                sequence: index,
                position,
                target: sequence.targets()[position + 1],
                supervised: sequence.supervises(position),
            })
        })
    }

    /// What the loss calculus needs to know of this batch.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds")]
    pub fn layout(&self) -> Layout {
        let micro_batch = |m: &MicroBatch| m.sequences().iter().map(Sequence::shape).collect();
        let ranks =
            self.0.iter().map(|rank| rank.micro_batches().iter().map(micro_batch).collect()).collect();
        Layout::new(ranks).expect("invariant: no group of a batch is empty and a sequence's counts agree")
    }

    /// The same sequences as one rank with one micro-batch: the batch before it was split.
    #[must_use]
    pub fn merged(&self) -> Self {
        Self(vec![Rank(vec![MicroBatch(self.sequences().cloned().collect())])])
    }

    /// Micro-batches of the rank that has most: how long the accumulation window is.
    #[must_use]
    pub fn longest_window(&self) -> usize {
        self.0.iter().map(|rank| rank.0.len()).max().unwrap_or(0)
    }

    /// One micro-batch as a batch of its own.
    #[must_use]
    pub fn of_micro_batch(micro_batch: MicroBatch) -> Self {
        Self(vec![Rank(vec![micro_batch])])
    }

    /// One sequence as a batch of its own.
    #[must_use]
    pub fn single(sequence: Sequence) -> Self {
        Self::of_micro_batch(MicroBatch(vec![sequence]))
    }

    /// The batch with every sequence replaced, in the canonical order.
    #[must_use]
    pub fn map_sequences(&self, mut change: impl FnMut(&Sequence) -> Sequence) -> Self {
        let mut micro_batch = |m: &MicroBatch| MicroBatch(m.0.iter().map(&mut change).collect());
        Self(self.0.iter().map(|rank| Rank(rank.0.iter().map(&mut micro_batch).collect())).collect())
    }
}

/// Why a batch is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A group without a part.
    #[error("a {what} needs at least one {part}")]
    Empty {
        /// The group.
        what: &'static str,
        /// What it lacks.
        part: &'static str,
    },
    /// A field that is not parallel to `input_ids`.
    #[error(
        "`{field}` has {found} entries, `input_ids` has {expected}: every field needs one entry per position"
    )]
    Length {
        /// Name of the field.
        field: &'static str,
        /// Entries found.
        found: usize,
        /// Entries wanted.
        expected: usize,
    },
    /// More positions than a position id can count.
    #[error("a sequence of {length} positions is longer than position ids can count")]
    TooLong {
        /// Number of positions.
        length: usize,
    },
    /// A label that is neither a token nor the ignore index.
    #[error("label {label} at position {position} is neither a token id nor the ignore index -100")]
    Label {
        /// Where.
        position: usize,
        /// The label.
        label: i64,
    },
    /// A target that contradicts a supervised label.
    #[error("target {target} at position {position} contradicts the supervised label {label}")]
    Target {
        /// Where.
        position: usize,
        /// The label.
        label: i64,
        /// The target.
        target: u32,
    },
    /// A supervised label that stands on padding or whose prediction is made from padding.
    #[error(
        "the label at position {position} is supervised, but that position or the one before it is padding \
         (segment 0): set the label to -100"
    )]
    SupervisedPadding {
        /// Where the label stands.
        position: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_positions_make_l_minus_1_predictions_and_ignored_ones_are_listed() {
        let sequence = Sequence::new(vec![5, 6, 7, 8], vec![5, IGNORE_INDEX, 7, 8]).unwrap();
        let batch = GlobalBatch::single(sequence);
        let seen: Vec<_> = batch.predictions().map(|p| (p.position, p.target, p.supervised)).collect();
        assert_eq!(seen, [(0, 6, false), (1, 7, true), (2, 8, true)]);
    }

    #[test]
    fn a_sequence_of_one_position_predicts_nothing() {
        let batch = GlobalBatch::single(Sequence::new(vec![3], vec![3]).unwrap());
        assert_eq!(batch.predictions().count(), 0);
        assert_eq!(batch.layout().supervised(), 0);
    }

    #[test]
    fn mapping_sequences_keeps_the_groups_and_the_order() {
        let sequence = |length: u32| Sequence::new((0..length).collect(), vec![1; length as usize]).unwrap();
        let micro_batch =
            |lengths: &[u32]| MicroBatch::new(lengths.iter().map(|&l| sequence(l)).collect()).unwrap();
        let rank =
            |parts: &[&[u32]]| Rank::new(parts.iter().map(|part| micro_batch(part)).collect()).unwrap();
        let batch = GlobalBatch::new(vec![rank(&[&[2, 3], &[4]]), rank(&[&[5]])]).unwrap();
        let mut seen = Vec::new();
        let same = batch.map_sequences(|sequence| {
            seen.push(sequence.len());
            sequence.clone()
        });
        assert_eq!((seen, &same), (vec![2, 3, 4, 5], &batch));
        let ignored = batch.map_sequences(|sequence| sequence.supervise_only(|_| false));
        assert_eq!(ignored.layout().supervised(), 0);
        assert_eq!(ignored.ranks().iter().map(|r| r.micro_batches().len()).collect::<Vec<_>>(), [2, 1]);
        let alone = GlobalBatch::of_micro_batch(micro_batch(&[2, 3]));
        assert_eq!(alone, GlobalBatch::new(vec![rank(&[&[2, 3]])]).unwrap());
    }

    #[test]
    fn contradictory_fields_are_named() {
        let err = |fields| Sequence::from_fields(fields).unwrap_err();
        let base = SequenceFields { input_ids: vec![1, 2], labels: vec![1, 2], ..Default::default() };
        assert_eq!(err(SequenceFields::default()), BatchError::Empty { what: "sequence", part: "position" });
        assert_eq!(
            err(SequenceFields { labels: vec![1], ..base.clone() }),
            BatchError::Length { field: "labels", found: 1, expected: 2 }
        );
        assert_eq!(
            err(SequenceFields { labels: vec![1, -1], ..base.clone() }),
            BatchError::Label { position: 1, label: -1 }
        );
        assert_eq!(
            err(SequenceFields { targets: vec![1, 9], ..base.clone() }),
            BatchError::Target { position: 1, label: 2, target: 9 }
        );
        assert_eq!(
            err(SequenceFields { segment_ids: vec![0, 1], labels: vec![IGNORE_INDEX, 2], ..base }),
            BatchError::SupervisedPadding { position: 1 }
        );
        assert!(MicroBatch::new(vec![]).is_err());
    }

    #[test]
    fn json_round_trips_and_is_checked_on_the_way_in() {
        let batch = GlobalBatch::single(Sequence::new(vec![1, 2, 3], vec![-100, 2, 3]).unwrap());
        let json = serde_json::to_string(&batch).unwrap();
        assert_eq!(serde_json::from_str::<GlobalBatch>(&json).unwrap(), batch);
        let short = json.replace("[-100,2,3]", "[-100,2]");
        assert!(serde_json::from_str::<GlobalBatch>(&short).unwrap_err().to_string().contains("labels"));
        assert!(serde_json::from_str::<GlobalBatch>("[]").is_err());
    }

    #[test]
    fn supervising_a_part_keeps_the_targets() {
        let sequence = Sequence::new(vec![5, 6, 7], vec![5, 6, 7]).unwrap();
        let only = sequence.supervise_only(|position| position == 1);
        assert_eq!(only.labels(), [5, IGNORE_INDEX, 7]);
        assert_eq!(only.targets(), [5, 6, 7]);
        assert_eq!(only.supervised(), 1);
    }
}
