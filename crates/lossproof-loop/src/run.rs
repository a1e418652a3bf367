//! The loop itself: accumulate, clip, step, zero, track, validate, one event after the other.

use crate::{
    Corpus, Length, Plan, RunError, Settings,
    decay::undecayed,
    evaluation::{Validation, validate},
    plan::count,
    sampler::{EpochSample, GlobalMicroBatch, Sampler},
    semantics::{IdleUpdate, Resume, Window},
    tracking::{RankLoss, Tracked},
};
use lossproof_spec::{EmptyPolicy, LossSpec, Reduction};
use lossproof_subject::{Dropout, LoopTrainer, SamplePlace, TrainingBatch};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
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

/// What happened next in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A window of micro-batches, and the update at its end.
    Update(Update),
    /// A validation between two updates.
    Validation {
        /// Updates so far.
        updates: u64,
        /// What it reports.
        validation: Validation,
    },
    /// The end of an epoch.
    Epoch(Epoch),
}

/// A window of micro-batches, and the update at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// Number of the update, from 1; a skipped one has the number of the next.
    pub update: u64,
    /// The epoch, from 0.
    pub epoch: u32,
    /// Loss of the window, as it is differentiated.
    #[serde(with = "lossproof_trace::number::any")]
    pub loss: f64,
    /// Supervised tokens of the window, over all ranks.
    pub tokens: u64,
    /// Samples of the window, over all ranks.
    pub samples: u64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping, over all parameters and ranks.
    #[serde(with = "lossproof_trace::number::any")]
    pub grad_norm: f64,
    /// Norm of each parameter's gradient before clipping.
    #[serde(with = "lossproof_trace::number::list")]
    pub tensor_norms: Vec<f64>,
    /// What the gradient was multiplied with.
    pub clip_factor: f64,
    /// Whether nothing was updated: the gradient was not finite, or there was no supervised token, and such an
    /// update is skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// The micro-batches.
    pub micro_batches: Vec<MicroBatchRecord>,
}

/// One micro-batch of all ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MicroBatchRecord {
    /// Its number in the epoch, from 0.
    pub micro_batch: usize,
    /// Of each rank, the samples of the corpus.
    pub samples: Vec<Vec<usize>>,
    /// Of each rank with samples, the mean loss of its supervised tokens.
    #[serde(with = "lossproof_trace::number::list")]
    pub losses: Vec<f64>,
}

/// The end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// The epoch, from 0.
    pub epoch: u32,
    /// Updates of the run so far.
    pub updates: u64,
    /// Loss of the epoch, as it is tracked; NaN where nothing was trained on.
    #[serde(with = "lossproof_trace::number::any")]
    pub training_loss: f64,
    /// What the validation at its end reports.
    pub validation: Validation,
}

/// A run that goes on event by event: what is done between two of them, such as writing a checkpoint, is for
/// the caller.
pub struct Run<'a> {
    trainer: &'a mut dyn LoopTrainer,
    corpus: &'a dyn Corpus,
    sampler: &'a dyn Sampler,
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
        settings.check()?;
        let parameters = trainer.parameters();
        let undecayed = undecayed(&parameters, settings.semantics.decay, &settings.rule);
        trainer.begin(&settings.rule, &undecayed, frozen)?;
        let frozen = parameters.iter().map(|info| frozen.contains(&info.name)).collect();
        let plan = Plan::new(corpus.training_samples(), settings);
        let epoch = sampler.epoch(0);
        let progress = Progress::default();
        let in_trainer = Duration::ZERO;
        let settings = *settings;
        Ok(Self { trainer, corpus, sampler, settings, frozen, plan, progress, epoch, in_trainer })
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
        let window: Vec<Vec<TrainingBatch>> =
            (start..end).map(|at| self.batches(at)).collect::<Result<_, _>>()?;
        let tokens: usize = window.iter().flatten().map(TrainingBatch::supervised).sum();
        let samples: usize = window.iter().flatten().map(|batch| batch.places().len()).sum();
        let (loss, factor) = self.reduction(tokens);
        let dropout = Dropout::everywhere(self.settings.dropout, self.settings.seed);

        let mut logged = 0.0;
        let mut micro_batches = Vec::with_capacity(window.len());
        for (micro_batch, ranks) in (start..).zip(&window) {
            let mut of_ranks = Vec::with_capacity(ranks.len());
            for batch in ranks {
                let started = Instant::now();
                let seen = self.trainer.backward(batch, &loss, factor, &dropout)?;
                self.in_trainer += started.elapsed();
                let losses = seen.token_losses.unwrap_or_default();
                logged += factor * seen.loss;
                let sum: f64 = losses.iter().sum();
                let mean = if loss.reduction == Reduction::TokenMean {
                    seen.loss
                } else {
                    sum / losses.len() as f64
                };
                of_ranks.push(RankLoss {
                    sum,
                    tokens: count(losses.len()),
                    mean,
                    samples: count(batch.places().len()),
                });
            }
            self.progress.tracked.add(self.settings.semantics.tracking, &of_ranks);
            micro_batches.push(MicroBatchRecord {
                micro_batch,
                samples: self.epoch[micro_batch].iter().map(|rank| indices(rank)).collect(),
                losses: of_ranks.iter().map(|rank| rank.mean).collect(),
            });
        }

        let started = Instant::now();
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

    fn validation(&mut self) -> Result<Validation, RunError> {
        let started = Instant::now();
        let validation = validate(self.trainer, self.corpus, &self.settings, self.progress.epoch)?;
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

    /// One micro-batch, for each rank with samples.
    fn batches(&self, micro_batch: usize) -> Result<Vec<TrainingBatch>, RunError> {
        let epoch = self.progress.epoch;
        let mut batches = Vec::new();
        for rank in self.epoch[micro_batch].iter().filter(|rank| !rank.is_empty()) {
            let mut samples = Vec::with_capacity(rank.len());
            for &EpochSample { index, place } in rank {
                samples.push(self.corpus.training(index, SamplePlace { epoch, sample: place })?);
            }
            batches.push(TrainingBatch::new(samples)?);
        }
        Ok(batches)
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

/// Where a script goes on that counts every window as long as it is configured: `step_N` means `N·K` micro-batches.
fn configured_windows(updates: u64, settings: &Settings, plan: &Plan) -> (u32, usize) {
    let micro_batches = count(plan.micro_batches).max(1);
    let trained = updates * count(settings.accumulate);
    let epoch = u32::try_from(trained / micro_batches).unwrap_or(u32::MAX);
    (epoch, usize::try_from(trained % micro_batches).unwrap_or(usize::MAX))
}

fn indices(rank: &[EpochSample]) -> Vec<usize> {
    rank.iter().map(|sample| sample.index).collect()
}
