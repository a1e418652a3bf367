//! The ranges of a strategy after the subject's limits have narrowed them, and the specs it draws from.

use super::{Size, draft::Draft};
use lossproof_spec::LossSpec;
use lossproof_subject::{Claims, Count, Limits};
use proptest::test_runner::Reason;
use std::ops::RangeInclusive;

#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) ranks: RangeInclusive<usize>,
    pub(super) micro_batches: RangeInclusive<usize>,
    pub(super) sequences: RangeInclusive<usize>,
    pub(super) positions: RangeInclusive<usize>,
    /// Token ids are below this; at least 1.
    pub(super) vocabulary: u32,
    /// Whether labels may be ignored.
    pub(super) ignoring: bool,
    /// Whether rows may be padded and packed. Padding is never supervised, so this takes ignored labels.
    pub(super) segments: bool,
    /// The specs that are claimed by name; none where all are.
    pub(super) claimed: Vec<LossSpec>,
}

impl Bounds {
    pub(super) fn new(limits: Limits, claims: &Claims, size: &Size) -> Result<Self, Reason> {
        if limits.vocabulary == 0 {
            return Err("the limits admit no batch: the vocabulary is empty".into());
        }
        Ok(Self {
            ranks: narrowed("ranks", &size.ranks, limits.ranks)?,
            micro_batches: narrowed("micro-batches", &size.micro_batches, limits.micro_batches)?,
            sequences: narrowed("sequences", &size.sequences, limits.sequences)?,
            positions: narrowed("positions", &size.positions, limits.lengths)?,
            vocabulary: u32::try_from(limits.vocabulary).unwrap_or(u32::MAX),
            ignoring: limits.ignore_index,
            segments: limits.ignore_index && limits.segments,
            claimed: claims.listed().to_vec(),
        })
    }

    /// Whether the counts of a draft are in range and its spec is claimed. Nothing else of a draft leaves the
    /// limits by being simplified.
    pub(super) fn admit(&self, draft: &Draft) -> bool {
        (self.claimed.is_empty() || self.claimed.contains(&draft.spec))
            && self.ranks.contains(&draft.ranks.len())
            && draft.ranks.iter().all(|rank| self.micro_batches.contains(&rank.len()))
            && draft.ranks.iter().flatten().all(|rows| self.sequences.contains(&rows.len()))
            && draft.rows().all(|row| row.is_valid() && self.positions.contains(&row.len()))
    }
}

/// What of `range` the subject takes, or the nearest that it takes where that is nothing. Zero is in no
/// batch.
fn narrowed(
    what: &str,
    range: &RangeInclusive<usize>,
    takes: Count,
) -> Result<RangeInclusive<usize>, Reason> {
    let least = takes.least.max(1);
    if takes.most < least || *range.end() == 0 || range.is_empty() {
        let message = format!("there is no batch with {range:?} {what}, of which the subject takes {takes}");
        return Err(message.into());
    }
    Ok((*range.start()).clamp(least, takes.most)..=(*range.end()).clamp(least, takes.most))
}
