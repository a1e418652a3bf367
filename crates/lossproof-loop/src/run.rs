//! The loop itself: accumulate, clip, step, zero, track, validate, one event after the other.

use crate::{
    Corpus, Length, Plan, RunError, Settings,
    decay::undecayed,
    evaluation::{Validation, validate},
    event::{Epoch, Event, MicroBatchRecord, Update},
    pass::{Pass, tokens_of},
    plan::{configured_windows, count, whole},
    ranks::{Gathered, OneProcess, Ranks},
    sampler::{EpochSample, GlobalMicroBatch, Sampler},
    semantics::{IdleUpdate, Resume, Window},
    tracking::{RankLoss, Tracked},
};
use lossproof_spec::{EmptyPolicy, LossSpec};
use lossproof_subject::{Dropout, LoopTrainer, SamplePlace, TrainingBatch};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    slice::ChunksExact,
    time::{Duration, Instant},
};

/// How far a run has come. With the trainer's state it is all that the rest of the run depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The epoch that goes on, from 0.
    pub epoch: u32,
    /// Micro-batches of it that are done.
    pub micro_batch: usize,
    /// Updates of the run so far, skipped ones not among them.
    pub updates: u64,
    /// The update after which a validation was last made.
    pub validated: u64,
    /// What the epoch's loss is made of so far.
    pub tracked: Tracked,
    /// Events so far.
    pub events: u64,
    /// Whether the run is at its end.
    pub finished: bool,
}

/// A run that goes on event by event: what is done between two of them, such as writing a checkpoint, is for
/// the caller.
pub struct Run<'a> {
    trainer: &'a mut dyn LoopTrainer,
    corpus: &'a dyn Corpus,
    sampler: &'a dyn Sampler,
    ranks: &'a mut dyn Ranks,
    settings: Settings,
    /// Of each parameter, whether it is not trained.
    frozen: Vec<bool>,
    plan: Plan,
    progress: Progress,
    /// The micro-batches of the epoch that goes on.
    epoch: Vec<GlobalMicroBatch>,
    /// Time spent in the trainer: passes, norms, updates and validations.
    in_trainer: Duration,
}

impl<'a> Run<'a> {
    /// A run from its beginning, with the trainer's parameters as they are.
    ///
    /// # Errors
    /// When the settings make no sense or the trainer has no such update rule.
    pub fn new(
        trainer: &'a mut dyn LoopTrainer,
        corpus: &'a dyn Corpus,
        sampler: &'a dyn Sampler,
        settings: &Settings,
    ) -> Result<Self, RunError> {
        Self::with_frozen(trainer, corpus, sampler, settings, &BTreeSet::new())
    }

    /// The same with parameters that are not trained: no update moves them, and their gradients are in no norm.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_frozen(
        trainer: &'a mut dyn LoopTrainer,
        corpus: &'a dyn Corpus,
        sampler: &'a dyn Sampler,
        settings: &Settings,
        frozen: &BTreeSet<String>,
    ) -> Result<Self, RunError> {
        // What has no size takes no memory that would have to be given back.
        let ranks = Box::leak(Box::new(OneProcess));
        Self::over(trainer, corpus, sampler, settings, frozen, ranks)
    }

    /// The same over ranks that may be elsewhere.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when there are fewer ranks than the settings ask for.
    pub fn over(
        trainer: &'a mut dyn LoopTrainer,
        corpus: &'a dyn Corpus,
        sampler: &'a dyn Sampler,
        settings: &Settings,
        frozen: &BTreeSet<String>,
        ranks: &'a mut dyn Ranks,
    ) -> Result<Self, RunError> {
        settings.check()?;
        if let Some(most) = ranks.most()
            && settings.ranks > most
        {
            return Err(RunError::TooManyRanks { ranks: settings.ranks, most });
        }
        let parameters = trainer.parameters();
        let undecayed = undecayed(&parameters, settings.semantics.decay, &settings.rule);
        trainer.begin(&settings.rule, &undecayed, frozen)?;
        let frozen = parameters.iter().map(|info| frozen.contains(&info.name)).collect();
        let plan = Plan::new(corpus.training_samples(), settings);
        let epoch = sampler.epoch(0);
        let progress = Progress::default();
        let in_trainer = Duration::ZERO;
        let settings = *settings;
        Ok(Self { trainer, corpus, sampler, ranks, settings, frozen, plan, progress, epoch, in_trainer })
    }

    /// Goes on from where a run had come to, once the trainer's state of then is
    /// [restored](LoopTrainer::restore).
    pub fn resume(&mut self, from: Progress) {
        self.progress = from;
        if self.settings.semantics.resume == Resume::ConfiguredWindows && from.micro_batch > 0 {
            let (epoch, micro_batch) = configured_windows(from.updates, &self.settings, &self.plan);
            let finished = from.finished || epoch >= self.plan.epochs;
            self.progress = Progress { epoch, micro_batch, tracked: Tracked::default(), finished, ..from };
        }
        self.epoch = self.sampler.epoch(self.progress.epoch);
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// What it is to do.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Time spent in the trainer so far: in passes, norms, updates and validations. The rest of a run's time is the
    /// loop's own.
    #[must_use]
    pub fn time_in_trainer(&self) -> Duration {
        self.in_trainer
    }

    /// The trainer between two events.
    pub fn trainer(&mut self) -> &mut dyn LoopTrainer {
        self.trainer
    }

    /// Does what comes next. `None` at the end of the run.
    ///
    /// # Errors
    /// When the trainer fails, or a sample makes no sequence.
    pub fn advance(&mut self) -> Result<Option<Event>, RunError> {
        if self.progress.finished {
            return Ok(None);
        }
        let event = self.next_event()?;
        self.progress.events = self.progress.events.saturating_add(1);
        Ok(Some(event))
    }

    fn next_event(&mut self) -> Result<Event, RunError> {
        let every = self.settings.evaluate_every;
        let updates = self.progress.updates;
        if every > 0 && updates > self.progress.validated && updates.is_multiple_of(every) {
            self.progress.validated = updates;
            let validation = self.validation()?;
            return Ok(Event::Validation { updates, validation });
        }
        if self.progress.micro_batch < self.epoch.len() && updates < self.plan.updates {
            self.update().map(Event::Update)
        } else {
            self.end_epoch().map(Event::Epoch)
        }
    }

    /// The rest of the run.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub fn finish(&mut self) -> Result<Vec<Event>, RunError> {
        let mut events = Vec::new();
        while let Some(event) = self.advance()? {
            events.push(event);
        }
        Ok(events)
    }

    fn update(&mut self) -> Result<Update, RunError> {
        let start = self.progress.micro_batch;
        let end = self.epoch.len().min(start + self.settings.accumulate);
        // The sampler says who takes part, which may be others than the settings do: a recording is replayed as it was.
        let ranks = self.epoch[start..end].iter().map(Vec::len).max().unwrap_or_default();
        let here: Vec<Vec<Option<TrainingBatch>>> = self
            .ranks
            .here(ranks)
            .map(|rank| (start..end).map(|at| self.batch(at, rank)).collect())
            .collect::<Result<_, RunError>>()?;
        let tokens = self.tokens(&here, ranks)?;
        let samples: usize = self.epoch[start..end].iter().flatten().map(Vec::len).sum();
        let (loss, factor) = self.reduction(tokens);

        let passes = self.passes(&here, &loss, factor)?;
        let mut logged = 0.0;
        let mut micro_batches = Vec::with_capacity(end - start);
        let mut of_rank: Vec<_> = passes.iter().map(|own| own.chunks_exact(Pass::NUMBERS)).collect();
        for micro_batch in start..end {
            let samples = &self.epoch[micro_batch];
            let mut of_ranks = Vec::with_capacity(samples.len());
            for (rank, samples) in samples.iter().enumerate().filter(|(_, samples)| !samples.is_empty()) {
                let numbers = of_rank.get_mut(rank).and_then(Iterator::next);
                let pass = numbers.and_then(Pass::read).ok_or_else(|| RunError::Rank {
                    rank,
                    what: format!("has no loss of micro-batch {micro_batch}"),
                })?;
                logged += factor * pass.loss;
                of_ranks.push(RankLoss {
                    sum: pass.sum,
                    tokens: count(whole(pass.tokens)),
                    mean: pass.mean,
                    samples: count(samples.len()),
                });
            }
            self.progress.tracked.add(self.settings.semantics.tracking, &of_ranks);
            micro_batches.push(MicroBatchRecord {
                micro_batch,
                samples: samples.iter().map(|rank| indices(rank)).collect(),
                losses: of_ranks.iter().map(|rank| rank.mean).collect(),
            });
        }
        let left = |rest: &ChunksExact<'_, f64>| rest.len() > 0 || !rest.remainder().is_empty();
        if let Some(rank) = of_rank.iter().position(left) {
            return Err(RunError::Rank { rank, what: "has more losses than micro-batches".to_owned() });
        }

        let started = Instant::now();
        self.ranks.reduce(self.trainer)?;
        let mut tensor_norms = self.trainer.gradient_norms()?;
        for (norm, _) in tensor_norms.iter_mut().zip(&self.frozen).filter(|(_, frozen)| **frozen) {
            *norm = 0.0;
        }
        let grad_norm = tensor_norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt();
        let idle = !grad_norm.is_finite() || tokens == 0;
        let skipped = idle && self.settings.semantics.idle == IdleUpdate::Skipped;
        let learning_rate = self.plan.learning_rate(self.progress.updates, &self.settings);
        let clip_factor = match self.settings.clip {
            Some(clip) if !idle => clip.factor(grad_norm),
            _ => 1.0,
        };
        if !skipped {
            self.trainer.update(learning_rate, clip_factor)?;
            self.ranks.updated(self.trainer)?;
            self.progress.updates += 1;
        }
        self.trainer.zero_gradient()?;
        self.in_trainer += started.elapsed();
        self.progress.micro_batch = end;
        Ok(Update {
            update: self.progress.updates + u64::from(skipped),
            epoch: self.progress.epoch,
            loss: if tokens == 0 { f64::NAN } else { logged },
            tokens: count(tokens),
            samples: count(samples),
            learning_rate,
            grad_norm,
            tensor_norms,
            clip_factor,
            skipped,
            micro_batches,
        })
    }

    /// Supervised tokens of a window, over the ranks that take part.
    fn tokens(&mut self, here: &[Vec<Option<TrainingBatch>>], ranks: usize) -> Result<usize, RunError> {
        let own = |batches: &Vec<Option<TrainingBatch>>| {
            let tokens: usize = batches.iter().flatten().map(TrainingBatch::supervised).sum();
            vec![tokens as f64]
        };
        let counted = self.ranks.gather(Gathered::Tokens, here.iter().map(own).collect())?;
        tokens_of(&counted, ranks)
    }

    /// Makes the passes of a window: of every rank, the numbers of each of its own, in order.
    fn passes(
        &mut self,
        here: &[Vec<Option<TrainingBatch>>],
        loss: &LossSpec,
        factor: f64,
    ) -> Result<Vec<Vec<f64>>, RunError> {
        let dropout = Dropout::everywhere(self.settings.dropout, self.settings.seed);
        let window = here.first().map_or(0, Vec::len);
        let mut numbers = vec![Vec::new(); here.len()];
        let mut pass = |own: &mut Self, rank: usize, at: usize| -> Result<(), RunError> {
            let batch = here.get(rank).and_then(|batches| batches.get(at)?.as_ref());
            if let (Some(batch), Some(numbers)) = (batch, numbers.get_mut(rank)) {
                let started = Instant::now();
                let seen = own.trainer.backward(batch, loss, factor, &dropout)?;
                own.in_trainer += started.elapsed();
                Pass::of(seen, loss).write(numbers);
            }
            Ok(())
        };
        if self.ranks.in_turn() {
            for rank in 0..here.len() {
                for at in 0..window {
                    pass(self, rank, at)?;
                }
                self.ranks.passed(self.trainer)?;
            }
        } else {
            for at in 0..window {
                for rank in 0..here.len() {
                    pass(self, rank, at)?;
                }
            }
        }
        self.ranks.gather(Gathered::Losses, numbers)
    }

    fn validation(&mut self) -> Result<Validation, RunError> {
        let started = Instant::now();
        let epoch = self.progress.epoch;
        let validation = validate(self.trainer, self.corpus, &self.settings, epoch, self.ranks)?;
        self.in_trainer += started.elapsed();
        Ok(validation)
    }

    /// How a micro-batch is reduced, and what its loss is multiplied with, in a window of so many tokens.
    fn reduction(&self, tokens: usize) -> (LossSpec, f64) {
        let label_smoothing = self.settings.label_smoothing;
        match self.settings.semantics.window {
            Window::Tokens => (LossSpec { label_smoothing, ..LossSpec::sum() }, 1.0 / tokens.max(1) as f64),
            Window::ConfiguredMicroBatches => {
                let mean = LossSpec { label_smoothing, empty: EmptyPolicy::Nan, ..LossSpec::token_mean() };
                (mean, 1.0 / (self.settings.accumulate * self.settings.ranks) as f64)
            }
        }
    }

    /// The samples of one rank in a micro-batch, where it has some.
    fn batch(&self, micro_batch: usize, rank: usize) -> Result<Option<TrainingBatch>, RunError> {
        let epoch = self.progress.epoch;
        let rows = self.epoch[micro_batch].get(rank).filter(|rows| !rows.is_empty());
        let Some(rows) = rows else { return Ok(None) };
        let mut samples = Vec::with_capacity(rows.len());
        for &EpochSample { index, place } in rows {
            samples.push(self.corpus.training(index, SamplePlace { epoch, sample: place })?);
        }
        Ok(Some(TrainingBatch::new(samples)?))
    }

    fn end_epoch(&mut self) -> Result<Epoch, RunError> {
        let validation = self.validation()?;
        let Progress { epoch, updates, tracked, events, .. } = self.progress;
        let training_loss = tracked.loss(self.settings.semantics.tracking, count(self.plan.micro_batches));
        let next = epoch + 1;
        let finished = updates >= self.plan.updates || (self.bounded_by_epochs() && next >= self.plan.epochs);
        self.progress = Progress {
            epoch: next,
            micro_batch: 0,
            updates,
            validated: updates,
            tracked: Tracked::default(),
            events,
            finished,
        };
        self.epoch = if finished { Vec::new() } else { self.sampler.epoch(next) };
        Ok(Epoch { epoch, updates, training_loss, validation })
    }

    /// Where updates are skipped, a run of so many goes on until it has them, but no further than twice the epochs that
    /// they would take.
    fn bounded_by_epochs(&self) -> bool {
        match (self.settings.length, self.settings.semantics.idle) {
            (Length::Updates(_), IdleUpdate::Skipped) => {
                self.progress.epoch + 1 >= self.plan.epochs.saturating_mul(2)
            }
            (Length::Updates(_), IdleUpdate::Made) | (Length::Epochs(_), _) => true,
        }
    }
}

fn indices(rank: &[EpochSample]) -> Vec<usize> {
    rank.iter().map(|sample| sample.index).collect()
}
