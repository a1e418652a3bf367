//! The ranges of a strategy after the subject's limits have narrowed them.

use super::{Size, draft::Draft};
use lossproof_subject::Limits;
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
}

impl Bounds {
    pub(super) fn new(limits: Limits, size: &Size) -> Result<Self, Reason> {
        let positions = if limits.fixed_length {
            narrowed("positions", &(limits.positions..=limits.positions), limits.positions)
        } else {
            narrowed("positions", &size.positions, limits.positions)
        };
        if limits.vocabulary == 0 {
            return Err("the limits admit no batch: the vocabulary is empty".into());
        }
        Ok(Self {
            ranks: narrowed("ranks", &size.ranks, limits.ranks)?,
            micro_batches: narrowed("micro-batches", &size.micro_batches, limits.micro_batches)?,
            sequences: narrowed("sequences", &size.sequences, limits.sequences)?,
            positions: positions?,
            vocabulary: u32::try_from(limits.vocabulary).unwrap_or(u32::MAX),
            ignoring: limits.ignore_index,
            segments: limits.ignore_index && limits.segments,
        })
    }

    /// Whether the counts of a draft are in range. Nothing else of a draft leaves the limits by being simplified.
    pub(super) fn admit(&self, draft: &Draft) -> bool {
        self.ranks.contains(&draft.ranks.len())
            && draft.ranks.iter().all(|rank| self.micro_batches.contains(&rank.len()))
            && draft.ranks.iter().flatten().all(|rows| self.sequences.contains(&rows.len()))
            && draft.rows().all(|row| row.is_valid() && self.positions.contains(&row.len()))
    }
}

/// `range` without zero and without what is above `limit`; the limit itself where nothing is left.
fn narrowed(
    what: &str,
    range: &RangeInclusive<usize>,
    limit: usize,
) -> Result<RangeInclusive<usize>, Reason> {
    let most = limit.min(*range.end());
    if most == 0 || range.is_empty() {
        let message = format!("there is no batch with {range:?} {what}, of which the subject takes {limit}");
        return Err(message.into());
    }
    Ok((*range.start()).clamp(1, most)..=most)
}
