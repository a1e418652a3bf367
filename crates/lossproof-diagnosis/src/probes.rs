//! Batches designed to tell hypotheses apart: everything that a semantics may depend on (ranks,
//! micro-batches, sequences, supervised tokens, positions, first labels, padding, documents, empty groups) is
//! there, and no two of it are alike.

use crate::{
    call::{Semantics, TrainerCall},
    drafts::{self, BatchDraft, ProbeTokens, SequenceDraft, plain},
};
use lossproof_cases::edit::edit_freely;
use lossproof_spec::{Combine, EmptyPolicy, GlobalBatch, LossSpec, MicroBatch, Scope, Sequence};
use lossproof_subject::Limits;

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
    /// The judged call of a trainer with these limits and semantics.
    pub(crate) fn call<'a>(&'a self, limits: &'a Limits, semantics: &'a Semantics) -> TrainerCall<'a> {
        TrainerCall {
            spec: semantics.spec.as_ref().unwrap_or(&self.spec),
            batch: &self.batch,
            limits,
            log_policy: semantics.log_policy,
            before: &self.before,
            upstream: self.upstream.as_deref(),
        }
    }
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

/// Positions of the longest sequence of a probe, where a trainer takes as many.
const LONGEST: usize = 64;

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
        let batch = drafts::batch(layout, &mut tokens, self.limits)?;
        let before: Option<Vec<_>> =
            before.iter().map(|layout| drafts::batch(layout, &mut tokens, self.limits)).collect();
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
        if let Some(probe) = self.add("one sequence", state, mean, PLAIN, &[])
            && probe.batch.sequences().count() > 1
        {
            probe.name = "a batch as small as the trainer takes";
        }
        self.add("equal lengths", state, mean, EQUAL, &[]);
        let longest = self.limits.lengths.most.min(LONGEST);
        if longest > 11 {
            // Longer than all others: some trainers cut off what is long.
            self.add("a long sequence", state, mean, &[&[&[plain(longest, 0), plain(5, 1)]]], &[]);
        }
        self.add("label smoothing", state, LossSpec { label_smoothing: 0.125, ..mean }, RAGGED, &[]);
        self.add("a z-loss", state, LossSpec { z_loss: 0.0625, ..mean }, RAGGED, &[]);
        for spec in [mean, LossSpec::naive_accumulated_mean()] {
            self.add("a padded batch", state, spec, PADDED, &[]);
            self.add("packed documents", state, spec, PACKED, &[]);
        }
        for empty in [EmptyPolicy::ZeroCounted, EmptyPolicy::ZeroSkipped] {
            for spec in [LossSpec::sequence_mean(), LossSpec::naive_accumulated_mean()] {
                let spec = LossSpec { empty, ..spec };
                let name = "groups without a supervised token";
                // Where labels cannot be ignored and no sequence may be a single token, there are no such groups.
                let supervises = |sequence: &Sequence| sequence.supervised() > 0;
                if self
                    .add(name, state, spec, EMPTY, &[])
                    .is_some_and(|probe| probe.batch.sequences().all(supervises))
                {
                    self.probes.pop();
                }
            }
        }
        let mean_of_means = LossSpec::naive_accumulated_mean();
        if let Some(probe) =
            self.add("a shorter window after a longer one", state, mean_of_means, SHORT, &[WINDOW])
            && probe.batch.longest_window() == probe.before[0].longest_window()
        {
            // A trainer of exactly so many micro-batches has no shorter window.
            self.probes.pop();
        }
        self.add("another batch before", state, mean, PLAIN, &[RAGGED]);
        for spec in [mean, LossSpec::naive_data_parallel()] {
            if let Some(probe) = self.add("three ranks", state, spec, THREE_RANKS, &[])
                && probe.batch.ranks().len() != THREE_RANKS.len()
            {
                probe.name = "what three ranks would have, on fewer or more";
            }
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
    let drawn = [WINDOW, SHORT].map(|layout| drafts::batch(layout, &mut tokens, limits));
    let both: Option<Vec<_>> = drawn.into_iter().collect();
    both.unwrap_or_default().into_iter().filter(|batch| limits.check(batch).is_ok()).collect()
}

const CORPUS: BatchDraft<'_> = &[&[&[plain(5, 1), plain(3, 0), plain(6, 2)], &[plain(4, 0)]]];

/// The batches of a validation, and a batch of training.
pub(crate) fn corpus(limits: &Limits) -> Option<(Vec<MicroBatch>, GlobalBatch)> {
    let mut tokens = ProbeTokens::new(limits.vocabulary, 78);
    let (corpus, training) =
        (drafts::batch(CORPUS, &mut tokens, limits)?, drafts::batch(PLAIN, &mut tokens, limits)?);
    let fits = limits.check(&corpus).is_ok() && limits.check(&training).is_ok();
    fits.then(|| (corpus.micro_batches().cloned().collect(), training))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::Rank;
    use lossproof_subject::Count;

    /// Supervised tokens of a micro-batch, by rank and micro-batch, of the first probe that is called so.
    fn supervised(name: &str, limits: &Limits) -> Option<Vec<Vec<usize>>> {
        let pool = pool(limits, false, false);
        let probe = pool.iter().find(|probe| probe.name == name)?;
        let of_rank = |rank: &Rank| {
            let tokens = |own: &MicroBatch| own.sequences().iter().map(Sequence::supervised).sum();
            rank.micro_batches().iter().map(tokens).collect()
        };
        Some(probe.batch.ranks().iter().map(of_rank).collect())
    }

    fn limits() -> Limits {
        Limits::of_model(64, 32)
    }

    #[test]
    fn no_probe_but_of_windows_is_lost_to_a_trainer_of_exactly_two_micro_batches() {
        let exact = Limits { micro_batches: Count::exactly(2), ..limits() };
        let specs = |pool: &[Probe]| -> Vec<_> {
            pool.iter()
                .filter(|probe| !probe.name.contains("shorter window"))
                .map(|probe| probe.spec)
                .collect()
        };
        let pool = [pool(&limits(), true, false), pool(&exact, true, false)];
        assert_eq!(specs(&pool[1]), specs(&pool[0]));
        let pool = &pool[1];
        assert!(pool.iter().all(|probe| exact.check(&probe.batch).is_ok()));
        assert_eq!(supervised("a ragged batch", &exact), Some(vec![vec![8, 10], vec![3, 6]]));
    }

    #[test]
    fn micro_batches_stay_unequal_where_no_label_is_ignored() {
        let whole = Limits { ignore_index: false, ..limits() };
        let ragged = supervised("a ragged batch", &limits());
        assert_eq!(ragged, Some(vec![vec![8, 10], vec![9]]));
        assert_eq!(supervised("a ragged batch", &whole), ragged);
        // A sequence of one token supervises nothing; where there is none, no group is empty.
        assert!(supervised("groups without a supervised token", &whole).is_some());
        let longer = Limits { lengths: Count { least: 2, most: 32 }, ..whole };
        assert_eq!(supervised("groups without a supervised token", &longer), None);
    }

    #[test]
    fn what_is_on_fewer_ranks_is_not_called_three_ranks() {
        let alone = Limits { ranks: Count::exactly(1), ..limits() };
        assert!(supervised("three ranks", &limits()).is_some_and(|ranks| ranks.len() == 3));
        assert_eq!(supervised("three ranks", &alone), None);
        let two = Limits { ranks: Count::exactly(2), ..limits() };
        assert!(pool(&two, false, false).iter().all(|probe| probe.batch.ranks().len() == 2));
    }
}
