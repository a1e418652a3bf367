//! Batches in outline, and the tokens that they are filled with: as a trainer takes them, whatever its limits.

use lossproof_spec::{GlobalBatch, IGNORE_INDEX, MicroBatch, Rank, Sequence, SequenceFields};
use lossproof_subject::{Count, Limits};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};

/// A sequence to be filled with tokens.
#[derive(Clone, Copy, Default)]
pub(crate) struct SequenceDraft {
    /// Positions without padding.
    pub(crate) length: usize,
    /// Leading labels that are ignored; 0 leaves the first one given, which nothing is scored against.
    pub(crate) prompt: usize,
    /// Padding before.
    pub(crate) left: usize,
    /// Padding after.
    pub(crate) right: usize,
    /// Positions of the first of two documents, where there are two.
    pub(crate) document: usize,
    /// Whether the text ends with the token that padding has.
    pub(crate) ends: bool,
}

impl SequenceDraft {
    /// The draft for a subject whose sequences all have one length, or whose labels cannot be ignored; `None`
    /// where what is special about it is what the subject does not take.
    fn within(self, limits: &Limits) -> Option<Self> {
        let special = self.left + self.right + self.document > 0;
        if special && (limits.lengths.is_exact() || !limits.segments || !limits.ignore_index) {
            return None;
        }
        let length = limits.lengths.nearest(self.length);
        let prompt = if limits.ignore_index { self.prompt.min(length) } else { 0 };
        Some(Self { length, prompt, ..self })
    }

    /// The draft without its prompt, so long that it supervises as many tokens: the first label is of no prediction.
    fn without_prompt(self) -> Self {
        Self { length: self.length - self.prompt.saturating_sub(1), prompt: 0, ..self }
    }
}

pub(crate) const fn plain(length: usize, prompt: usize) -> SequenceDraft {
    SequenceDraft { length, prompt, left: 0, right: 0, document: 0, ends: false }
}

/// Draws tokens for a probe: distinct as long as the vocabulary has any left, the first and the last among
/// the earliest, since mistakes sit at its ends.
pub(crate) struct ProbeTokens {
    left: Vec<u32>,
    vocabulary: u32,
    padding: u32,
    random: ChaCha8Rng,
}

impl ProbeTokens {
    pub(crate) fn new(vocabulary: usize, seed: u64) -> Self {
        let vocabulary = u32::try_from(vocabulary).unwrap_or(u32::MAX).max(2);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut left: Vec<u32> = (1..vocabulary.min(4096) - 1).collect();
        left.shuffle(&mut random);
        let padding = left.pop().unwrap_or(0);
        // In every second probe something else comes first, so that what is wrong with a first token and what is
        // wrong with token 0 are two things.
        let ends = if seed.is_multiple_of(2) { left.len() } else { left.len().saturating_sub(2) };
        left.splice(ends..ends, [vocabulary - 1, 0]);
        Self { left, vocabulary, padding, random }
    }

    /// A token that was not drawn before, as long as there is one.
    pub(crate) fn next(&mut self) -> u32 {
        self.left.pop().unwrap_or_else(|| self.random.random_range(0..self.vocabulary))
    }

    /// The token of padding.
    pub(crate) fn padding(&self) -> u32 {
        self.padding
    }

    /// Fills a sequence with tokens; `None` where the subject takes no such sequence.
    pub(crate) fn fill(&mut self, draft: SequenceDraft, limits: &Limits) -> Option<Sequence> {
        let draft = draft.within(limits)?;
        let total = draft.left + draft.length + draft.right;
        let mut fields = SequenceFields::default();
        for position in 0..total {
            let within = position.checked_sub(draft.left).filter(|&within| within < draft.length);
            let second = within.is_some_and(|within| draft.document > 0 && within >= draft.document);
            let token = match within {
                None => self.padding,
                Some(within) if draft.ends && within + 1 == draft.length => self.padding,
                Some(_) => self.next(),
            };
            let starts = draft.document > 0 && within == Some(draft.document);
            let ignored = within.is_none_or(|within| within < draft.prompt) || starts;
            fields.input_ids.push(token);
            fields.targets.push(token);
            fields.labels.push(if ignored { IGNORE_INDEX } else { i64::from(token) });
            fields.segment_ids.push(within.map_or(0, |_| 1 + u32::from(second)));
            let from_document =
                within.map_or(0, |within| if second { within - draft.document } else { within });
            fields.position_ids.push(u32::try_from(from_document).unwrap_or(0));
        }
        // Nothing is predicted from padding.
        for position in 0..total {
            if position == 0 && draft.left > 0 || position > 0 && fields.segment_ids[position - 1] == 0 {
                fields.labels[position] = IGNORE_INDEX;
            }
        }
        Sequence::from_fields(fields).ok()
    }
}

/// Sequences to be filled with tokens, by rank and micro-batch.
pub(crate) type BatchDraft<'a> = &'a [&'a [&'a [SequenceDraft]]];

/// A layout as a subject takes it: ranks and micro-batches beyond the most that it takes go to the last that it does
/// take, and where it takes no fewer, groups are divided. Where labels cannot be ignored, sequences are shorter
/// instead.
fn fitted(layout: BatchDraft<'_>, limits: &Limits) -> Vec<Vec<Vec<SequenceDraft>>> {
    let supervised = |draft: SequenceDraft| if limits.ignore_index { draft } else { draft.without_prompt() };
    let owned = |micro_batch: &&[SequenceDraft]| micro_batch.iter().copied().map(supervised).collect();
    let ranks = layout.iter().map(|rank| rank.iter().map(owned).collect()).collect();
    let ranks: Vec<Vec<Vec<SequenceDraft>>> = regrouped(ranks, limits.ranks);
    let in_micro_batches = |rank| regrouped(rank, limits.micro_batches);
    let mut ranks: Vec<Vec<Vec<SequenceDraft>>> = ranks.into_iter().map(in_micro_batches).collect();
    for micro_batch in ranks.iter_mut().flatten() {
        let given = micro_batch.clone();
        let count = given.len().max(limits.sequences.least);
        *micro_batch = given.into_iter().cycle().take(count).collect();
    }
    ranks
}

/// Groups as many as there may be: those that are too many are joined to the last, and where they are too few the
/// last that has several parts is divided, or the last repeated where none has.
fn regrouped<T: Clone>(mut groups: Vec<Vec<T>>, count: Count) -> Vec<Vec<T>> {
    while groups.len() > count.most.max(1) {
        let last = groups.pop().unwrap_or_default();
        if let Some(before) = groups.last_mut() {
            before.extend(last);
        }
    }
    while groups.len() < count.least {
        let divisible = groups.iter().rposition(|group| group.len() > 1);
        match divisible {
            Some(index) => {
                let rest = groups[index].split_off(1);
                groups.insert(index + 1, rest);
            }
            None => groups.push(groups.last().cloned().unwrap_or_default()),
        }
    }
    groups
}

/// The batch of a layout, filled with tokens; `None` where the subject takes no such sequences.
pub(crate) fn batch(
    layout: BatchDraft<'_>,
    tokens: &mut ProbeTokens,
    limits: &Limits,
) -> Option<GlobalBatch> {
    let mut ranks = Vec::new();
    for rank in fitted(layout, limits) {
        let mut micro_batches = Vec::new();
        for micro_batch in rank {
            let sequences: Option<Vec<_>> =
                micro_batch.iter().map(|draft| tokens.fill(*draft, limits)).collect();
            micro_batches.push(MicroBatch::new(sequences?).ok()?);
        }
        ranks.push(Rank::new(micro_batches).ok()?);
    }
    GlobalBatch::new(ranks).ok()
}
