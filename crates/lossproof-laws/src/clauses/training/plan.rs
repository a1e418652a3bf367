//! Plans of small trainings, drawn from the sequences of a case.

use crate::clauses::step::norm_of;
use crate::trial::{Ended, Trial};
use lossproof_cases::edit::{edit, id};
use lossproof_spec::{Clip, Combine, GlobalBatch, LossSpec, MicroBatch, Rule, Sequence};
use lossproof_subject::{
    PlannedSchedule, Tensor, TensorSet, TracedUpdate, TrainingEvent, TrainingLoop, TrainingPlan,
    TrainingTrace,
};
use rand::{RngExt, seq::IndexedRandom};
use std::{collections::BTreeSet, fmt::Write as _};

/// Samples of an epoch, at most, where updates may have any number of them: each is met in every epoch, and again
/// in the replay.
const SAMPLES: usize = 7;

/// Samples of an epoch, at least.
const FEWEST: usize = 3;

/// Samples of an epoch where they cannot come from one batch.
const MADE: usize = 4;

/// Samples of an epoch that are too many for a law.
const TOO_MANY: usize = 64;

/// Epochs of a training: the second has another order.
const EPOCHS: u32 = 2;

/// Probability of dropout, where a plan has it.
pub(super) const DROPOUT: f64 = 0.25;

impl Trial<'_> {
    /// The trainer's loop.
    pub(super) fn training(&mut self) -> Result<&mut dyn TrainingLoop, Ended> {
        let training = self.subject.training_loop();
        training.ok_or_else(|| Ended::Unsupported("training".to_owned()))
    }

    /// A training over sequences of the case in which nothing divides where the limits allow it: the last
    /// micro-batch is short, and the last update of an epoch has fewer of them. No decay, no clipping, no dropout,
    /// no validation, a learning rate that stays.
    pub(super) fn plan(&mut self) -> Result<TrainingPlan, Ended> {
        let plan = self.plan_over(|_| true)?;
        self.with_samples_of_one_text(plan)
    }

    /// The same over those sequences of the case that a law can use.
    pub(super) fn plan_over(&mut self, usable: fn(&Sequence) -> bool) -> Result<TrainingPlan, Ended> {
        let limits = self.facts.info.limits;
        let most = limits.sequences.most.min(2).max(limits.sequences.least.max(1));
        let batch = self.random.random_range(limits.sequences.least.max(1)..=most);
        let micro_batches = self.random.random_range(2..=3);
        let ranks = self.random.random_range(1..=2);
        let mut plan = TrainingPlan {
            training: Vec::new(),
            validation: Vec::new(),
            batch,
            accumulate: limits.micro_batches.nearest(micro_batches).max(1),
            ranks: limits.ranks.nearest(ranks).max(1),
            epochs: EPOCHS,
            seed: self.random.random_range(0..1 << 20),
            rule: Rule::Sgd { momentum: 0.5, weight_decay: 0.0 },
            learning_rate: 0.0,
            schedule: PlannedSchedule::Constant,
            clip: None,
            dropout: 0.0,
            evaluate_every: 0,
            frozen: BTreeSet::new(),
        };
        plan.training = self.samples(&plan, usable);
        if plan.window() >= plan.training.len() && limits.ranks.least <= 1 {
            plan.ranks = 1;
        }
        if plan.window() >= plan.training.len() && limits.sequences.least <= 1 {
            plan.batch = 1;
        }
        if plan.window() >= plan.training.len() && limits.micro_batches.least <= 2 {
            plan.accumulate = 2.min(limits.micro_batches.most.max(1));
        }
        let divisor = self.divisor_of_samples(&plan);
        plan.training.truncate(plan.training.len() / divisor * divisor);
        if plan.training.len() < FEWEST || plan.window() >= plan.training.len() {
            return Err(Ended::NotApplicable);
        }
        Ok(plan)
    }

    /// Sequences of the case; where no batch of the trainer has as many as two updates need, others made of them.
    fn samples(&self, plan: &TrainingPlan, usable: fn(&Sequence) -> bool) -> Vec<Sequence> {
        let limits = self.facts.info.limits;
        let divisor = self.divisor_of_samples(plan);
        // More than one update.
        let least = if divisor > 1 { plan.window().saturating_add(divisor).max(FEWEST) } else { FEWEST };
        let drawn = self.case.batch.sequences().filter(|drawn| drawn.supervised() > 0 && usable(drawn));
        let mut samples: Vec<Sequence> = drawn.take(SAMPLES.max(least)).cloned().collect();
        let largest = limits.sequences.most.saturating_mul(limits.micro_batches.most);
        let in_no_batch = divisor > 1 || largest.saturating_mul(limits.ranks.most) < least;
        if in_no_batch && samples.len() < least && least <= TOO_MANY && !samples.is_empty() {
            // A training does not need them in one batch.
            let wanting = least.max(MADE).saturating_sub(samples.len());
            let more: Vec<Sequence> = self.more_samples(&samples).take(wanting).collect();
            samples.extend(more);
        }
        samples
    }

    /// Samples that are made of others; there have to be some.
    pub(super) fn more_samples<'s>(
        &self,
        samples: &'s [Sequence],
    ) -> impl Iterator<Item = Sequence> + use<'s> {
        let vocabulary = self.vocabulary();
        (1..).flat_map(move |by| samples.iter().map(move |one| of_other_tokens(one, by, vocabulary)))
    }

    /// What the number of samples has to be a multiple of, so that every micro-batch and every update is one that the
    /// trainer takes, and that the spec says the weights of.
    fn divisor_of_samples(&self, plan: &TrainingPlan) -> usize {
        let limits = self.facts.info.limits;
        // A rank without samples counts in a mean over ranks, and stands in no batch.
        let mean_of_ranks = plan.ranks > 1 && self.case.spec.ranks == Combine::Average;
        if limits.micro_batches.least > 1 || limits.ranks.least > 1 || mean_of_ranks {
            plan.window()
        } else if limits.sequences.least > 1 {
            plan.batch
        } else {
            1
        }
    }

    /// Whether a plan can show what becomes of the rest of an epoch that fills no update; for a trainer that takes
    /// whole updates alone, there is none.
    pub(super) fn shows_the_rest(&self, plan: &TrainingPlan) -> bool {
        !plan.training.len().is_multiple_of(plan.window()) || self.divisor_of_samples(plan) == plan.window()
    }

    /// Whether the trainer can have these micro-batches, windows and ranks over the samples of the plan, also where
    /// so many of them are gone.
    pub(super) fn can_run(&self, plan: &TrainingPlan, gone: usize) -> bool {
        let limits = self.facts.info.limits;
        let divisor = self.divisor_of_samples(plan);
        limits.micro_batches.contains(plan.accumulate)
            && limits.sequences.contains(plan.batch)
            && limits.ranks.contains(plan.ranks)
            && plan.training.len().is_multiple_of(divisor)
            && (plan.training.len() - gone).is_multiple_of(divisor)
    }

    /// The norm of the gradient of a whole update, at the parameters of the trial.
    pub(super) fn first_norm(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<f64, Ended> {
        let indices: Vec<usize> = (0..plan.window().min(plan.training.len())).collect();
        let mut micro_batches: Vec<Vec<usize>> =
            indices.chunks_exact(plan.batch).map(<[usize]>::to_vec).collect();
        micro_batches.truncate(micro_batches.len() / plan.ranks * plan.ranks);
        let of_ranks = micro_batches.chunks(plan.ranks).map(<[Vec<usize>]>::to_vec).collect();
        let batch = traced(of_ranks).batch(plan).ok_or(Ended::NotApplicable)?;
        Ok(norm_of(&self.gradient(spec, &batch)?.gradient))
    }

    /// Clipping that most updates of a plan feel.
    pub(super) fn clip_of(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<Clip, Ended> {
        self.return_to_the_trial()?;
        let norm = self.first_norm(spec, plan)?;
        if norm <= 0.0 || !norm.is_finite() {
            return Err(Ended::NotApplicable);
        }
        let share = [0.25, 0.5].choose(&mut self.random).copied().unwrap_or(0.5);
        Ok(Clip { max_norm: share * norm, epsilon: 1e-6 })
    }

    /// Some of the samples, for a validation that does not divide either.
    pub(super) fn validation_of(&mut self, plan: &TrainingPlan) -> Vec<Sequence> {
        let least = self.facts.info.limits.sequences.least.max(1);
        let most = plan.training.len().min(least.max(5));
        let mut samples = plan.training[..most / least * least].to_vec();
        // Samples of one text stay in its order.
        if rows_of_one_text(&samples).as_ref() != Some(&samples) {
            samples.reverse();
        }
        samples
    }

    /// Runs a plan from the parameters of the trial.
    pub(super) fn train(
        &mut self,
        spec: &LossSpec,
        plan: &TrainingPlan,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, Ended> {
        self.note_plan("", plan, stop_after);
        Ok(self.fresh_training(spec)?.train(plan, stop_after)?)
    }

    /// Notes a plan that is run, for whoever reads of a failure.
    pub(super) fn note_plan(&mut self, how: &str, plan: &TrainingPlan, stop_after: Option<u64>) {
        let mut said = format!("{how}{plan}");
        if let Some(updates) = stop_after {
            let _ = write!(said, "; stopped after update {updates}");
        }
        if !self.plans.contains(&said) {
            self.plans.push(said);
        }
    }

    /// The trainer's loop, after everything of a training before is taken away but what was saved.
    pub(super) fn fresh_training(&mut self, spec: &LossSpec) -> Result<&mut dyn TrainingLoop, Ended> {
        self.return_to_the_trial()?;
        self.subject.configure(spec)?;
        // A training moves parameters: what was computed so far was computed at others.
        self.loads += 1;
        self.training()
    }

    /// The parameters that a training starts from.
    pub(super) fn start_of_training(&mut self) -> Result<TensorSet, Ended> {
        match &self.loaded {
            Some(loaded) => Ok(loaded.clone()),
            None => self.parameters(),
        }
    }
}

/// How often updates meet each sample of a plan.
pub(super) fn times_met<'t>(
    plan: &TrainingPlan,
    updates: impl IntoIterator<Item = &'t TracedUpdate>,
) -> Vec<usize> {
    let mut times = vec![0; plan.training.len()];
    for update in updates {
        for index in update.indices() {
            // A checked subject meets none that the plan does not have.
            if let Some(times) = times.get_mut(index) {
                *times += 1;
            }
        }
    }
    times
}

/// The sequence with every token so many further in the vocabulary.
fn of_other_tokens(sequence: &Sequence, by: usize, vocabulary: usize) -> Sequence {
    let other = |token: u32| id((token as usize + by) % vocabulary);
    edit(sequence, |fields| {
        for token in fields.input_ids.iter_mut().chain(&mut fields.targets) {
            *token = other(*token);
        }
        for label in &mut fields.labels {
            // An ignored label stays ignored.
            *label = u32::try_from(*label).map_or(*label, |token| i64::from(other(token)));
        }
    })
}

/// Rows of one text, each one token further: as many as these samples and as long as the shortest of them.
/// Samples that are such rows stay as they are. `None` of none.
pub(super) fn rows_of_one_text(samples: &[Sequence]) -> Option<Vec<Sequence>> {
    let length = samples.iter().map(Sequence::len).min()?;
    let mut text = samples.first()?.input_ids()[..length].to_vec();
    text.extend(samples.iter().skip(1).filter_map(|sample| sample.input_ids()[..length].last()));
    let row =
        |tokens: &[u32]| Sequence::new(tokens.to_vec(), tokens.iter().copied().map(i64::from).collect());
    text.windows(length).map(|tokens| row(tokens).ok()).collect()
}

/// Whether two tensors have the same elements to the bit.
pub(super) fn same_bits(one: &Tensor, other: &Tensor) -> bool {
    let same = |at: usize| one.get(at).to_bits() == other.get(at).to_bits();
    one.elements() == other.elements() && (0..one.elements()).all(same)
}

/// An update of which only the samples are known.
fn traced(samples: Vec<Vec<Vec<usize>>>) -> TracedUpdate {
    TracedUpdate {
        samples,
        loss: None,
        learning_rate: None,
        grad_norm: None,
        skipped: false,
        parameters: TensorSet::new(),
    }
}

/// The epochs of a trace: each with its updates and the loss that is logged at its end.
pub(super) fn epochs(trace: &TrainingTrace) -> Vec<(Vec<&TracedUpdate>, Option<f64>)> {
    let (mut epochs, mut updates) = (Vec::new(), Vec::new());
    for event in &trace.events {
        match event {
            TrainingEvent::Update(update) => updates.push(update),
            TrainingEvent::EpochEnd(loss) => epochs.push((std::mem::take(&mut updates), *loss)),
            TrainingEvent::Validation(_) => {}
        }
    }
    if !updates.is_empty() {
        epochs.push((updates, None));
    }
    epochs
}

/// Sequences as one batch; `None` of none.
pub(super) fn together(sequences: &[Sequence]) -> Option<GlobalBatch> {
    Some(GlobalBatch::of_micro_batch(MicroBatch::new(sequences.to_vec()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(tokens: &[u32]) -> Sequence {
        let labels = tokens.iter().copied().map(i64::from).collect();
        Sequence::new(tokens.to_vec(), labels).expect("tokens are labels")
    }

    #[test]
    fn other_tokens_are_in_the_vocabulary_and_ignored_labels_stay_so() {
        let drawn = Sequence::new(vec![1, 6, 3], vec![1, -100, 3]).expect("a label may be ignored");
        let other = of_other_tokens(&drawn, 3, 8);
        assert_eq!((other.input_ids(), other.labels()), (&[4, 1, 6][..], &[4, -100, 6][..]));
    }

    #[test]
    fn rows_of_one_text_are_each_one_token_further() {
        let drawn = [sample(&[1, 2, 3, 4]), sample(&[5, 6, 7]), sample(&[8, 9, 10, 11])];
        let rows = [sample(&[1, 2, 3]), sample(&[2, 3, 7]), sample(&[3, 7, 10])];
        assert_eq!(rows_of_one_text(&drawn).as_deref(), Some(&rows[..]));
        assert_eq!(rows_of_one_text(&rows).as_deref(), Some(&rows[..]));
        assert_eq!(rows_of_one_text(&[]), None);
    }
}
