//! Batches designed to tell hypotheses apart: everything that a semantics may depend on (ranks,
//! micro-batches, sequences, supervised tokens, positions, first labels, padding, documents, empty groups) is
//! there, and no two of it are alike.

use crate::call::TrainerCall;
use lossproof_cases::edit::edit_freely;
use lossproof_spec::{
    Combine, EmptyPolicy, GlobalBatch, IGNORE_INDEX, LossSpec, MicroBatch, Rank, Scope, Sequence,
    SequenceFields,
};
use lossproof_subject::{Limits, LogPolicy};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng, seq::SliceRandom};

/// The parameters that a probe is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProbeState {
    /// Known logits, the same at every position.
    KnownLogits,
    /// Known logits with a large constant added, all of them exact in the trainer's dtype.
    Offset,
    /// Parameters at O(1), as a reference has them too.
    General,
    /// The parameters that the subject starts with.
    Own,
}

/// One designed experiment: calls of a trainer from fresh, of which the last is judged.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) state: ProbeState,
    pub(crate) spec: LossSpec,
    pub(crate) batch: GlobalBatch,
    pub(crate) before: Vec<GlobalBatch>,
    pub(crate) upstream: Option<Vec<f64>>,
}

impl Probe {
    /// The judged call of a trainer with these limits, which logs by this policy.
    pub(crate) fn call<'a>(&'a self, limits: &'a Limits, log_policy: LogPolicy) -> TrainerCall<'a> {
        TrainerCall {
            spec: &self.spec,
            batch: &self.batch,
            limits,
            log_policy,
            before: &self.before,
            upstream: self.upstream.as_deref(),
        }
    }
}

/// A sequence to be filled with tokens.
#[derive(Clone, Copy, Default)]
pub(crate) struct SequenceDraft {
    /// Positions without padding.
    length: usize,
    /// Leading labels that are ignored; 0 leaves the first one given, which nothing is scored against.
    prompt: usize,
    /// Padding before.
    left: usize,
    /// Padding after.
    right: usize,
    /// Positions of the first of two documents, where there are two.
    document: usize,
    /// Whether the text ends with the token that padding has.
    ends: bool,
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
type BatchDraft<'a> = &'a [&'a [&'a [SequenceDraft]]];

/// A layout as a subject takes it: what is too many ranks becomes micro-batches of one, and what is too many
/// micro-batches sequences of one.
fn fitted(layout: BatchDraft<'_>, limits: &Limits) -> Vec<Vec<Vec<SequenceDraft>>> {
    let owned = |micro_batch: &&[SequenceDraft]| micro_batch.to_vec();
    let mut ranks: Vec<Vec<Vec<SequenceDraft>>> =
        layout.iter().map(|rank| rank.iter().map(owned).collect()).collect();
    if ranks.len() > limits.ranks.most {
        ranks = vec![ranks.into_iter().flatten().collect()];
    }
    for rank in &mut ranks {
        if rank.len() > limits.micro_batches.most {
            *rank = vec![rank.iter().flatten().copied().collect()];
        }
    }
    ranks
}

fn batch(layout: BatchDraft<'_>, tokens: &mut ProbeTokens, limits: &Limits) -> Option<GlobalBatch> {
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

/// Ranks, micro-batches, sequences, supervised tokens of the batch, of each rank, micro-batch and sequence,
/// labels before the shift and positions: no two of these numbers that could be taken for each other are
/// equal.
const RAGGED: BatchDraft<'_> =
    &[&[&[plain(7, 0), plain(5, 3)], &[plain(11, 1)]], &[&[plain(4, 0), plain(8, 3), plain(2, 1)]]];
const PADDED: BatchDraft<'_> = &[&[
    &[SequenceDraft { right: 2, ends: true, ..plain(5, 1) }, SequenceDraft { left: 2, ..plain(6, 1) }],
    &[SequenceDraft { right: 1, ..plain(3, 0) }, plain(4, 0)],
]];
const PACKED: BatchDraft<'_> = &[&[
    &[SequenceDraft { document: 3, ..plain(7, 1) }],
    &[plain(5, 0), SequenceDraft { document: 2, right: 1, ..plain(5, 0) }],
]];
const EMPTY: BatchDraft<'_> = &[
    &[&[plain(4, 0), plain(3, 3)], &[plain(5, 5)]],
    &[&[plain(3, 3), plain(2, 2)]],
    &[&[plain(6, 1)], &[plain(2, 0), plain(4, 4)], &[plain(3, 1)]],
];
const THREE_RANKS: BatchDraft<'_> =
    &[&[&[plain(5, 1)]], &[&[plain(3, 0), plain(6, 2)]], &[&[plain(4, 0)], &[plain(2, 0)]]];
const EQUAL: BatchDraft<'_> = &[&[&[plain(4, 0), plain(4, 0)], &[plain(4, 0), plain(4, 0)]]];
const WINDOW: BatchDraft<'_> = &[&[&[plain(4, 0)], &[plain(3, 1)], &[plain(5, 0)]]];
const SHORT: BatchDraft<'_> = &[&[&[plain(4, 1)], &[plain(2, 0)]]];
const PLAIN: BatchDraft<'_> = &[&[&[plain(6, 0)]]];

/// Every probe that a trainer with these limits takes: with `general` those whose truth a reference has to
/// say, too, and with `upstream` those whose weights come from above.
pub(crate) fn pool(limits: &Limits, general: bool, upstream: bool) -> Vec<Probe> {
    let mut probes = ProbePool { limits, probes: Vec::new() };
    let states: &[ProbeState] =
        if general { &[ProbeState::KnownLogits, ProbeState::General] } else { &[ProbeState::KnownLogits] };
    for &state in states {
        probes.of_state(state, upstream);
    }
    probes.add("a large constant on all logits", ProbeState::Offset, LossSpec::token_mean(), RAGGED, &[]);
    probes.probes
}

struct ProbePool<'a> {
    limits: &'a Limits,
    probes: Vec<Probe>,
}

impl ProbePool<'_> {
    fn add(
        &mut self,
        name: &'static str,
        state: ProbeState,
        spec: LossSpec,
        layout: BatchDraft<'_>,
        before: &[BatchDraft<'_>],
    ) -> Option<&mut Probe> {
        let seed = self.probes.len() as u64;
        let mut tokens = ProbeTokens::new(self.limits.vocabulary, seed);
        let batch = batch(layout, &mut tokens, self.limits)?;
        let before: Option<Vec<_>> =
            before.iter().map(|layout| self::batch(layout, &mut tokens, self.limits)).collect();
        let before = before?;
        if !std::iter::once(&batch).chain(&before).all(|batch| self.limits.check(batch).is_ok()) {
            return None;
        }
        self.probes.push(Probe { name, state, spec, batch, before, upstream: None });
        self.probes.last_mut()
    }

    fn of_state(&mut self, state: ProbeState, upstream: bool) {
        // The first probe that is off is the first piece of evidence, so the ragged ones come first.
        let per_micro_batch = LossSpec {
            scope: Scope::MicroBatch,
            micro_batches: Combine::Average,
            ranks: Combine::Average,
            ..LossSpec::sequence_mean()
        };
        let mean = LossSpec::token_mean();
        for spec in [
            mean,
            LossSpec::sum(),
            LossSpec::sequence_mean(),
            LossSpec::batch_mean(),
            LossSpec::naive_accumulated_mean(),
            LossSpec::naive_data_parallel(),
            per_micro_batch,
        ] {
            self.add("a ragged batch", state, spec, RAGGED, &[]);
        }
        self.add("one sequence", state, mean, PLAIN, &[]);
        self.add("equal lengths", state, mean, EQUAL, &[]);
        self.add("label smoothing", state, LossSpec { label_smoothing: 0.125, ..mean }, RAGGED, &[]);
        self.add("a z-loss", state, LossSpec { z_loss: 0.0625, ..mean }, RAGGED, &[]);
        for spec in [mean, LossSpec::naive_accumulated_mean()] {
            self.add("a padded batch", state, spec, PADDED, &[]);
            self.add("packed documents", state, spec, PACKED, &[]);
        }
        for empty in [EmptyPolicy::ZeroCounted, EmptyPolicy::ZeroSkipped] {
            for spec in [LossSpec::sequence_mean(), LossSpec::naive_accumulated_mean()] {
                self.add("groups without a supervised token", state, LossSpec { empty, ..spec }, EMPTY, &[]);
            }
        }
        self.add(
            "a shorter window after a longer one",
            state,
            LossSpec::naive_accumulated_mean(),
            SHORT,
            &[WINDOW],
        );
        self.add("another batch before", state, mean, PLAIN, &[RAGGED]);
        for spec in [mean, LossSpec::naive_data_parallel()] {
            self.add("three ranks", state, spec, THREE_RANKS, &[]);
        }
        if state == ProbeState::General {
            self.repeated_tokens(mean);
        }
        if upstream && let Some(probe) = self.add("weights from above", state, LossSpec::sum(), RAGGED, &[]) {
            let weights = probe.batch.predictions().enumerate();
            probe.upstream = Some(weights.map(|(index, _)| 0.25 + 0.125 * index as f64).collect());
        }
    }

    /// The first and the third token of a sequence are the same, and those of another sequence too.
    fn repeated_tokens(&mut self, spec: LossSpec) {
        let Some(probe) = self.add("repeated tokens", ProbeState::General, spec, RAGGED, &[]) else { return };
        probe.batch = probe.batch.map_sequences(|sequence| {
            edit_freely(sequence, |fields| {
                if fields.input_ids.len() > 2 {
                    let first = fields.input_ids[0];
                    (fields.input_ids[2], fields.targets[2]) = (first, first);
                }
            })
        });
    }
}

/// Batches for optimizer steps: a long window, a short one.
pub(crate) fn windows(limits: &Limits) -> Vec<GlobalBatch> {
    let mut tokens = ProbeTokens::new(limits.vocabulary, 77);
    let drawn = [WINDOW, SHORT].map(|layout| batch(layout, &mut tokens, limits));
    let both: Option<Vec<_>> = drawn.into_iter().collect();
    both.unwrap_or_default().into_iter().filter(|batch| limits.check(batch).is_ok()).collect()
}

const CORPUS: BatchDraft<'_> = &[&[&[plain(5, 1), plain(3, 0), plain(6, 2)], &[plain(4, 0)]]];

/// The batches of a validation, and a batch of training.
pub(crate) fn corpus(limits: &Limits) -> Option<(Vec<MicroBatch>, GlobalBatch)> {
    let mut tokens = ProbeTokens::new(limits.vocabulary, 78);
    let (corpus, training) = (batch(CORPUS, &mut tokens, limits)?, batch(PLAIN, &mut tokens, limits)?);
    let fits = limits.check(&corpus).is_ok() && limits.check(&training).is_ok();
    fits.then(|| (corpus.micro_batches().cloned().collect(), training))
}
