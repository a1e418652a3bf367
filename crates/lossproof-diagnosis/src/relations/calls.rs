//! Batches that give the same few sequences again and again: alone, together, in micro-batches and on ranks, padded,
//! packed, and after other batches.

use crate::{
    drafts::{ProbeTokens, SequenceDraft, plain},
    probes::{Probe, ProbeState},
};
use lossproof_cases::edit::{alone, assemble, edit_freely, given, packed, padded, relabel};
use lossproof_spec::{GlobalBatch, LossSpec, Sequence, SequenceFields, TokenWeights};
use lossproof_subject::{Count, Limits};

/// Fixes the tokens of the sequences.
const SEED: u64 = 91;

/// The sequences, in the order of the constants below: positions, and leading labels that are ignored. Their
/// supervised tokens, labels and positions are all different, so that no factor has two readings.
const DRAFTS: [SequenceDraft; 4] = [plain(7, 0), plain(5, 3), plain(4, 1), plain(3, 0)];

/// A sequence of the calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// One of the drafts.
    Draft(usize),
    /// The first draft with another end: what is predicted before it is the same.
    OtherEnd,
    /// The third draft without a label.
    Unsupervised,
    /// The third draft, its tokens in pairs of the same.
    Pairs,
    /// A draft with padding before and after it.
    Padded(usize, usize, usize),
    /// The second draft behind padding with another token.
    PaddedOtherwise,
    /// The second draft with the padding token at its end, and so much padding behind it.
    EndsAsPadding(usize),
    /// The fourth and the third draft as two documents.
    Packed,
    /// The third draft as a document behind another one as long as the fourth.
    PackedOtherwise,
}

const A: Of = Of::Draft(0);
const B: Of = Of::Draft(1);
const C: Of = Of::Draft(2);
const D: Of = Of::Draft(3);
const E: Of = Of::Unsupervised;

/// Sequences that are given alone, and with one of their labels: the name of the one, of the other, and the sequence.
const ALONE: &[(&str, &str, Of)] = &[
    ("a sequence alone", "a lone label", A),
    ("a sequence alone", "a lone label", B),
    ("a sequence alone", "a lone label", C),
    ("a sequence alone", "a lone label", D),
    ("a sequence alone", "a lone label", Of::OtherEnd),
    ("repeated tokens", "a lone label of repeated tokens", Of::Pairs),
    ("a sequence alone", "a lone label", Of::EndsAsPadding(0)),
    ("the padding token at the end, padded", "a lone label, padded", Of::EndsAsPadding(1)),
    ("padding behind, alone", "a lone label, padded", Of::Padded(0, 0, 2)),
    ("padding in front, alone", "a lone label, padded", Of::Padded(1, 2, 0)),
    ("padding in front, alone", "a lone label, padded", Of::PaddedOtherwise),
    ("packed documents, alone", "a lone label in packed documents", Of::Packed),
    ("packed documents, alone", "a lone label in packed documents", Of::PackedOtherwise),
];

/// Sequences by rank and micro-batch.
type Parts<'a> = &'a [&'a [&'a [Of]]];

/// Layouts of sequences that are all supervised, with what is special about each.
const LAYOUTS: &[(&str, Parts<'_>)] = &[
    ("two sequences", &[&[&[A, B]]]),
    ("two sequences in the other order", &[&[&[B, A]]]),
    ("a sequence twice", &[&[&[A, A, C]]]),
    ("three sequences", &[&[&[C, D, B]]]),
    ("a shared beginning", &[&[&[Of::OtherEnd, B]]]),
    ("two micro-batches", &[&[&[A], &[B, C]]]),
    ("two micro-batches in the other order", &[&[&[B, C], &[A]]]),
    ("two equal micro-batches", &[&[&[A], &[A]]]),
    ("three micro-batches", &[&[&[D], &[A, B], &[C]]]),
    ("four micro-batches", &[&[&[C], &[D], &[A], &[B]]]),
    ("five micro-batches", &[&[&[A], &[C], &[D], &[B], &[D, C]]]),
    ("two ranks", &[&[&[A]], &[&[B]]]),
    ("two ranks in the other order", &[&[&[B]], &[&[A]]]),
    ("three ranks", &[&[&[A, B]], &[&[C]], &[&[D]]]),
    ("two ranks of two micro-batches", &[&[&[A], &[B, D]], &[&[C], &[D]]]),
    ("windows of unequal length", &[&[&[A], &[B], &[D]], &[&[C, D]]]),
    ("padding behind", &[&[&[Of::Padded(0, 0, 2), D]]]),
    ("padding in front", &[&[&[Of::Padded(1, 2, 0)], &[C]]]),
    ("padding on both sides", &[&[&[Of::Padded(2, 1, 2), A]]]),
    ("padding, alone", &[&[&[Of::Padded(0, 1, 1)]]]),
    ("a text that ends with the padding token", &[&[&[Of::EndsAsPadding(1), D]]]),
    ("packed documents", &[&[&[Of::Packed, B]]]),
    ("packed documents twice", &[&[&[Of::PackedOtherwise], &[Of::Packed]]]),
];

/// Layouts with groups in which nothing is supervised.
const EMPTY: &[(&str, Parts<'_>)] = &[
    ("a sequence without a supervised token", &[&[&[A, E]]]),
    ("a micro-batch without a supervised token", &[&[&[A], &[E], &[B]]]),
    ("a rank without a supervised token", &[&[&[A], &[D]], &[&[E]]]),
    ("nothing supervised", &[&[&[E]]]),
];

/// A name, the batches that come before, and the batch that is judged.
type AfterOthers<'a> = (&'a str, &'a [Parts<'a>], Parts<'a>);

/// Layouts after others.
const AFTER: &[AfterOthers<'_>] = &[
    ("another batch before", &[&[&[&[A, B]]]], &[&[&[C]]]),
    ("the same batch before", &[&[&[&[A]]]], &[&[&[A]]]),
    ("a shorter window after a longer one", &[&[&[&[A], &[B], &[C]]]], &[&[&[D], &[C]]]),
    ("a window of one after a longer one", &[&[&[&[A], &[B]]]], &[&[&[B]]]),
    ("a longer window after a shorter one", &[&[&[&[C]]]], &[&[&[A], &[B], &[D]]]),
];

/// Supervised tokens of the large batch, at least: more than eight bits count. The number is odd, so that eight
/// significant bits do not hold it either.
const MANY: usize = 257;

/// The calls of a subject with these limits under these semantics. The first ones give a sequence alone, or one
/// label of it.
pub(super) fn calls(limits: &Limits, specs: &[LossSpec]) -> Vec<Probe> {
    let sequences = Sequences::new(limits);
    let mut calls = Vec::new();
    for &spec in specs {
        let mut of_spec = CallsOfSpec { limits, spec, sequences: &sequences, calls: &mut calls };
        of_spec.add_all();
    }
    calls
}

/// The sequences that calls are made of.
struct Sequences {
    drafts: Vec<Option<Sequence>>,
    padding: u32,
    other: Vec<u32>,
}

impl Sequences {
    fn new(limits: &Limits) -> Self {
        let mut tokens = ProbeTokens::new(limits.vocabulary, SEED);
        let drafts = DRAFTS.iter().map(|draft| tokens.fill(*draft, limits)).collect();
        let other = vec![tokens.next(), tokens.next()];
        Self { drafts, padding: tokens.padding(), other }
    }

    fn of(&self, of: Of) -> Option<Sequence> {
        let draft = |index: usize| self.drafts.get(index).cloned().flatten();
        match of {
            Of::Draft(index) => draft(index),
            Of::OtherEnd => draft(0).map(|sequence| with_other_end(&sequence, &self.other)),
            Of::Unsupervised => draft(2).map(|sequence| sequence.supervise_only(|_| false)),
            Of::Pairs => draft(2).map(|sequence| in_pairs(&sequence)),
            Of::Padded(index, left, right) => {
                draft(index).map(|sequence| padded(&sequence, left, right, self.padding))
            }
            Of::EndsAsPadding(right) => {
                let ending = |fields: &mut SequenceFields| {
                    for ids in [&mut fields.input_ids, &mut fields.targets] {
                        if let Some(last) = ids.last_mut() {
                            *last = self.padding;
                        }
                    }
                };
                Some(padded(&edit_freely(&draft(1)?, ending), 0, right, self.padding))
            }
            Of::PaddedOtherwise => Some(padded(&draft(1)?, 2, 0, *self.other.first()?)),
            Of::Packed => Some(packed(&draft(3)?, &draft(2)?)),
            Of::PackedOtherwise => Some(packed(&with_other_end(&draft(3)?, &self.other), &draft(2)?)),
        }
    }
}

/// The sequence with other tokens at its end.
fn with_other_end(sequence: &Sequence, tokens: &[u32]) -> Sequence {
    edit_freely(sequence, |fields| {
        let from = fields.input_ids.len().saturating_sub(tokens.len()).max(1);
        for (at, token) in (from..fields.input_ids.len()).zip(tokens) {
            (fields.input_ids[at], fields.targets[at]) = (*token, *token);
        }
    })
}

/// The sequence with every second token the same as the one before it.
fn in_pairs(sequence: &Sequence) -> Sequence {
    edit_freely(sequence, |fields| {
        for at in (1..fields.input_ids.len()).step_by(2) {
            let token = fields.input_ids[at - 1];
            (fields.input_ids[at], fields.targets[at]) = (token, token);
        }
    })
}

struct CallsOfSpec<'a> {
    limits: &'a Limits,
    spec: LossSpec,
    sequences: &'a Sequences,
    calls: &'a mut Vec<Probe>,
}

impl CallsOfSpec<'_> {
    fn add_all(&mut self) {
        for &(name, label, of) in ALONE {
            let Some(sequence) = self.sequences.of(of) else { continue };
            self.push(name, Vec::new(), alone(&sequence, self.limits));
            if self.limits.ignore_index {
                self.lone_labels(label, &sequence);
            }
        }
        for (name, parts) in LAYOUTS.iter().chain(EMPTY) {
            self.add(name, &[], parts);
        }
        for (name, before, parts) in AFTER {
            self.add(name, before, parts);
        }
        self.add_many();
    }

    /// A sequence with one of its labels, for each of them.
    fn lone_labels(&mut self, name: &'static str, sequence: &Sequence) {
        for at in (1..sequence.len()).filter(|&at| given(sequence.labels()[at])) {
            let lone = relabel(sequence, |fields, position| (position == at).then(|| fields.targets[at]));
            self.push(name, Vec::new(), alone(&lone, self.limits));
        }
    }

    /// So many sequences that eight bits do not count their tokens.
    fn add_many(&mut self) {
        let (Some(long), Some(short)) = (self.sequences.of(A), self.sequences.of(C)) else { return };
        let mut all = vec![short];
        let mut tokens: usize = all.iter().map(Sequence::supervised).sum();
        while tokens < MANY || tokens.is_multiple_of(2) && tokens < 2 * MANY {
            tokens += long.supervised().max(1);
            all.push(long.clone());
        }
        let [ranks, window, sequences] =
            [self.limits.ranks, self.limits.micro_batches, self.limits.sequences]
                .map(|count| count.least.max(1));
        if sequences > 1 || self.limits.sequences.most < all.len() {
            return;
        }
        let batch = assemble(vec![vec![all; window]; ranks]);
        self.push("more tokens than eight bits count", Vec::new(), batch);
    }

    fn add(&mut self, name: &'static str, before: &[Parts<'_>], parts: Parts<'_>) {
        let before: Option<Vec<_>> = before.iter().map(|parts| self.batch(parts)).collect();
        if let (Some(before), Some(batch)) = (before, self.batch(parts)) {
            self.push(name, before, batch);
        }
    }

    /// The batch of these parts, each repeated until there are as many as the subject takes at least; `None`
    /// where it takes no such batch.
    fn batch(&self, parts: Parts<'_>) -> Option<GlobalBatch> {
        let mut ranks = Vec::new();
        for rank in parts {
            let mut window = Vec::new();
            for micro_batch in *rank {
                let sequences: Option<Vec<_>> = micro_batch.iter().map(|of| self.sequences.of(*of)).collect();
                window.push(repeated(&sequences?, self.limits.sequences)?);
            }
            ranks.push(repeated(&window, self.limits.micro_batches)?);
        }
        Some(assemble(repeated(&ranks, self.limits.ranks)?))
    }

    fn push(&mut self, name: &'static str, before: Vec<GlobalBatch>, batch: GlobalBatch) {
        let takes = |batch: &GlobalBatch| {
            self.limits.check(batch).is_ok() && TokenWeights::new(&self.spec, &batch.layout()).is_ok()
        };
        if !before.iter().chain([&batch]).all(takes) {
            return;
        }
        let (state, spec, upstream) = (ProbeState::Own, self.spec, None);
        self.calls.push(Probe { name, state, spec, batch, before, upstream });
    }
}

/// The parts again and again, until there are as many as a subject takes at least; `None` where there are too many.
fn repeated<T: Clone>(parts: &[T], takes: Count) -> Option<Vec<T>> {
    if parts.len() > takes.most {
        return None;
    }
    let least = takes.least.max(parts.len());
    Some(parts.iter().cycle().take(least).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_subject_has_calls_inside_its_limits() {
        let all = Limits::of_model(20, 16);
        let mut narrow = all;
        (narrow.ignore_index, narrow.segments, narrow.free_labels) = (false, false, false);
        (narrow.lengths, narrow.ranks, narrow.micro_batches) =
            (Count::exactly(6), Count::exactly(1), Count::exactly(4));
        for (limits, least) in [(all, 45), (narrow, 12)] {
            let calls = calls(&limits, &[LossSpec::token_mean()]);
            let names: BTreeSet<_> = calls.iter().map(|call| call.name).collect();
            assert!(calls.len() >= least, "{}: {names:?}", calls.len());
            assert!(calls.iter().all(|call| limits.check(&call.batch).is_ok()));
        }
    }

    #[test]
    fn packed_documents_are_predicted_as_they_are_alone() {
        let sequences = Sequences::new(&Limits::of_model(20, 16));
        let packed = sequences.of(Of::Packed).unwrap();
        let alone: usize = [C, D].map(|of| sequences.of(of).unwrap().supervised()).iter().sum();
        assert_eq!(packed.supervised(), alone);
        assert_eq!(packed.position_ids(), [0, 1, 2, 0, 1, 2, 3]);
    }
}
