//! What a trainer's own loop is asked to run, what it leaves behind, and the capability to run it.
//!
//! A [`TrainingPlan`] is a whole training: samples, how many make an update, how often they are met, under which rule
//! and schedule. A loop runs it, can be stopped after any update, and goes on from what it saved. What is
//! judged are the parameters after every update, beside what the loop says of it.

use crate::{Evaluated, SubjectError, TensorSet, Unsupported};
use lossproof_spec::{Adam, Clip, Decayed, EpsilonPlacement, GlobalBatch, MicroBatch, Rank, Rule, Sequence};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

/// A training from its beginning to its end, under the loss spec in force: a validation in it is of plain
/// cross-entropy, whatever that is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrainingPlan {
    /// The samples of an epoch.
    pub training: Vec<Sequence>,
    /// The samples of a validation; none where nothing is validated.
    pub validation: Vec<Sequence>,
    /// Samples of a micro-batch on one rank. The last micro-batch of an epoch may have fewer.
    pub batch: usize,
    /// Micro-batches of an update on one rank. The last update of an epoch may have fewer.
    pub accumulate: usize,
    /// Number of ranks.
    pub ranks: usize,
    /// How often every sample is met.
    pub epochs: u32,
    /// Fixes what is left to chance: the order of the samples and dropout.
    pub seed: u64,
    /// The update rule. Its weight decay reaches the parameters that it says.
    pub rule: Rule,
    /// The learning rate at the beginning.
    pub learning_rate: f64,
    /// How it changes.
    pub schedule: PlannedSchedule,
    /// Clipping by the norm over all parameters that are trained, and all ranks, once per update.
    pub clip: Option<Clip>,
    /// Probability of dropout in training, wherever the model has it. What is kept is divided by 1 − p.
    pub dropout: f64,
    /// Updates between two validations, beside the one at the end of every epoch; 0: only that.
    pub evaluate_every: u64,
    /// Names of parameters that are not trained.
    pub frozen: BTreeSet<String>,
}

/// How the learning rate of a plan changes from update to update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PlannedSchedule {
    /// Not at all.
    Constant,
    /// By equal steps to zero, which it would reach in the update after the last: update k, from 0, of T has
    /// `lr·(T − k)/T`, as `get_linear_schedule_with_warmup` without a warm-up.
    Linear,
}

impl TrainingPlan {
    /// Samples of a whole update.
    #[must_use]
    pub fn window(&self) -> usize {
        self.batch.saturating_mul(self.accumulate).saturating_mul(self.ranks)
    }

    /// Updates of an epoch.
    #[must_use]
    pub fn updates_per_epoch(&self) -> usize {
        self.training.len().div_ceil(self.window().max(1))
    }

    /// Updates of the whole training, as long as none is skipped.
    #[must_use]
    pub fn updates(&self) -> usize {
        self.updates_per_epoch().saturating_mul(self.epochs as usize)
    }

    /// The learning rate of an update, counted from 0 without those that were skipped.
    #[must_use]
    pub fn learning_rate_of(&self, update: usize) -> f64 {
        let updates = self.updates().max(1);
        match self.schedule {
            PlannedSchedule::Constant => self.learning_rate,
            PlannedSchedule::Linear => {
                self.learning_rate * (updates.saturating_sub(update) as f64 / updates as f64)
            }
        }
    }
}

/// In words, but for the samples themselves.
///
/// ```
/// use lossproof_spec::{Clip, Rule, Sequence};
/// use lossproof_subject::{PlannedSchedule, TrainingPlan};
///
/// let plan = TrainingPlan {
///     training: vec![Sequence::new(vec![1, 2], vec![1, 2])?; 5],
///     validation: Vec::new(),
///     batch: 1,
///     accumulate: 2,
///     ranks: 1,
///     epochs: 2,
///     seed: 7,
///     rule: Rule::Sgd { momentum: 0.5, weight_decay: 0.0 },
///     learning_rate: 0.125,
///     schedule: PlannedSchedule::Linear,
///     clip: Some(Clip { max_norm: 0.5, epsilon: 1e-6 }),
///     dropout: 0.0,
///     evaluate_every: 0,
///     frozen: ["head.bias".to_owned()].into(),
/// };
/// assert_eq!(
///     plan.to_string(),
///     "5 samples, 1 in a micro-batch, 2 micro-batches in an update; 2 epochs of 3 updates; seed 7; \
///      SGD, momentum 0.5, weight decay 0, learning rate 0.125 falling to zero by equal steps; \
///      clipped to 0.5 with 1e-6 added to the norm; not trained: head.bias"
/// );
/// # Ok::<(), lossproof_spec::BatchError>(())
/// ```
impl fmt::Display for TrainingPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let samples = self.training.len();
        write!(f, "{samples} samples, {} in a micro-batch, ", self.batch)?;
        write!(f, "{} micro-batches in an update", self.accumulate)?;
        if self.ranks > 1 {
            write!(f, ", on {} ranks", self.ranks)?;
        }
        write!(f, "; {} epochs of {} updates; seed {}; ", self.epochs, self.updates_per_epoch(), self.seed)?;
        let (name, numbers) = match &self.rule {
            Rule::Sgd { momentum, weight_decay } => {
                ("SGD", format!("momentum {momentum}, weight decay {weight_decay}"))
            }
            Rule::Adam(adam) => ("Adam", numbers_of(adam)),
            Rule::AdamW(adam) => ("AdamW", numbers_of(adam)),
        };
        write!(f, "{name}, {numbers}, learning rate {}", self.learning_rate)?;
        if self.schedule == PlannedSchedule::Linear {
            f.write_str(" falling to zero by equal steps")?;
        }
        if let Some(Clip { max_norm, epsilon }) = self.clip {
            write!(f, "; clipped to {max_norm} with {epsilon:e} added to the norm")?;
        }
        if self.dropout > 0.0 {
            write!(f, "; dropout {}", self.dropout)?;
        }
        if !self.validation.is_empty() {
            write!(f, "; {} samples validated", self.validation.len())?;
            match self.evaluate_every {
                0 => f.write_str(" at the end of an epoch")?,
                every => write!(f, " every {every} updates and at the end of an epoch")?,
            }
        }
        if !self.frozen.is_empty() {
            let names: Vec<&str> = self.frozen.iter().map(String::as_str).collect();
            write!(f, "; not trained: {}", names.join(", "))?;
        }
        Ok(())
    }
}

fn numbers_of(adam: &Adam) -> String {
    let Adam { beta_1, beta_2, epsilon, epsilon_placement, weight_decay, decayed } = adam;
    let placed = match epsilon_placement {
        EpsilonPlacement::AfterCorrection => "after the correction",
        EpsilonPlacement::BeforeCorrection => "before the correction",
    };
    let of = match decayed {
        Decayed::All => "of all",
        Decayed::Matrices => "of matrices",
    };
    format!("β₁ {beta_1}, β₂ {beta_2}, ε {epsilon:e} {placed}, weight decay {weight_decay} {of}")
}

/// What a loop leaves behind, event after event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingTrace {
    /// The events, in order.
    pub events: Vec<TrainingEvent>,
}

/// What happens in a training. That it was stopped is no event.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainingEvent {
    /// An update.
    Update(TracedUpdate),
    /// A validation, at the parameters after the update before it.
    Validation(Evaluated),
    /// The end of an epoch, which comes once for each, with the loss of training that is logged for it, where one is.
    EpochEnd(Option<f64>),
}

/// An update, and what the loop says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TracedUpdate {
    /// The samples that it is made of, as indices of [`TrainingPlan::training`]: of each micro-batch, of each rank.
    /// The list of a rank that takes no part in a micro-batch is empty, or missing at the end.
    pub samples: Vec<Vec<Vec<usize>>>,
    /// The loss that is logged for it, where one is: by the [`LogPolicy`](crate::LogPolicy) of the card.
    pub loss: Option<f64>,
    /// The learning rate that it was made with, where one is logged. A log that is written after the schedule has
    /// advanced has that of the next update, which belongs there.
    pub learning_rate: Option<f64>,
    /// The norm of the gradient before clipping, where it is logged.
    pub grad_norm: Option<f64>,
    /// Whether it was skipped, because its gradient was not finite.
    pub skipped: bool,
    /// The trainable parameters after it, the frozen ones among them.
    pub parameters: TensorSet,
}

impl TracedUpdate {
    /// Its samples, in the order of micro-batches and ranks.
    pub fn indices(&self) -> impl Iterator<Item = usize> {
        self.samples.iter().flatten().flatten().copied()
    }

    /// The batch that it is made of; `None` without samples, or with one that the plan does not have.
    #[must_use]
    pub fn batch(&self, plan: &TrainingPlan) -> Option<GlobalBatch> {
        let ranks = self.samples.iter().map(Vec::len).max()?;
        let mut batch = Vec::with_capacity(ranks);
        for rank in 0..ranks {
            let mut micro_batches = Vec::new();
            for samples in self.samples.iter().filter_map(|ranks| ranks.get(rank)) {
                if samples.is_empty() {
                    continue;
                }
                let sequences: Option<Vec<Sequence>> =
                    samples.iter().map(|&index| plan.training.get(index).cloned()).collect();
                micro_batches.push(MicroBatch::new(sequences?).ok()?);
            }
            batch.extend(Rank::new(micro_batches).ok());
        }
        GlobalBatch::new(batch).ok()
    }
}

impl TrainingTrace {
    /// Its updates.
    pub fn updates(&self) -> impl Iterator<Item = &TracedUpdate> {
        self.events.iter().filter_map(|event| match event {
            TrainingEvent::Update(update) => Some(update),
            _ => None,
        })
    }
}

/// The capability to run a whole training: a trainer's own loop.
pub trait TrainingLoop {
    /// Whether the loop can run such a plan under the loss spec in force, without running it. The limits of the subject
    /// are those of batches; a plan may leave a rest that is no whole update.
    ///
    /// # Errors
    /// [`Unsupported`], naming the first setting that it does not have.
    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported>;

    /// Whether a training can be stopped after an update, and [resumed](Self::resume).
    fn resumes(&mut self) -> bool;

    /// Whether the masks of dropout belong to the samples, so that the same elements of a sample are dropped wherever
    /// in an update it stands. A generator from which every pass draws what comes next has other masks for it.
    fn masks_of_samples(&mut self) -> bool {
        false
    }

    /// Trains from the parameters in force and without optimizer state, to the end of the plan or until so many
    /// updates are made, those that are skipped among them. Then everything that the rest depends on is saved.
    ///
    /// # Errors
    /// When the plan is not [accepted](Self::accepts), or the trainer fails.
    fn train(&mut self, plan: &TrainingPlan, stop_after: Option<u64>) -> Result<TrainingTrace, SubjectError>;

    /// Goes on from what was saved last, as a fresh process would: nothing but that is left of the training
    /// before, also where the subject was [reset](crate::Subject::reset) in between. The trace begins with what
    /// follows, and `stop_after` counts from there.
    ///
    /// # Errors
    /// [`SubjectError::OtherTraining`] where what was saved is of another plan and the rest would not be that of
    /// one training; otherwise as [`train`](Self::train).
    fn resume(&mut self, plan: &TrainingPlan, stop_after: Option<u64>)
    -> Result<TrainingTrace, SubjectError>;
}
