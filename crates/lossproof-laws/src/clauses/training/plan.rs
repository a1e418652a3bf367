//! Plans of small trainings, drawn from the sequences of a case.

use crate::clauses::step::norm_of;
use crate::trial::{Ended, Trial};
use lossproof_cases::edit::{edit, id};
use lossproof_spec::{
    Adam, Clip, Decayed, EpsilonPlacement, GlobalBatch, LossSpec, MicroBatch, Rule, Sequence,
};
use lossproof_subject::{
    PlannedSchedule, TensorSet, TracedUpdate, TrainingEvent, TrainingLoop, TrainingPlan, TrainingTrace,
};
use rand::{RngExt, seq::IndexedRandom};
use std::collections::BTreeSet;

/// Samples of an epoch, at most: each is met in every epoch, and again in the replay.
const SAMPLES: usize = 7;

/// Samples of an epoch, at least.
const FEWEST: usize = 3;

/// Samples of an epoch where they cannot come from one batch.
const MADE: usize = 4;

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
        let limits = self.facts.info.limits;
        let supervised = self.case.batch.sequences().filter(|sequence| sequence.supervised() > 0);
        let mut training: Vec<Sequence> = supervised.take(SAMPLES).cloned().collect();
        let largest = limits.sequences.most.saturating_mul(limits.micro_batches.most);
        if largest.saturating_mul(limits.ranks.most) < FEWEST {
            // No batch of such a trainer has as many, and a training does not need them in one.
            let vocabulary = self.vocabulary();
            let drawn = training.clone();
            let more = (1..).flat_map(|by| drawn.iter().map(move |one| of_other_tokens(one, by, vocabulary)));
            let wanted = if drawn.is_empty() { 0 } else { MADE - drawn.len() };
            training.extend(more.take(wanted));
        }
        let most = limits.sequences.most.min(2).max(limits.sequences.least.max(1));
        let batch = self.random.random_range(limits.sequences.least.max(1)..=most);
        let accumulate = self
            .random
            .random_range(2..=3)
            .clamp(limits.micro_batches.least.max(1), limits.micro_batches.most.max(1));
        let ranks =
            self.random.random_range(1..=2).clamp(limits.ranks.least.max(1), limits.ranks.most.max(1));
        // Where batches, windows or ranks have one size, every one is to be whole.
        let mut whole = 1;
        if limits.sequences.is_exact() {
            whole *= batch;
        }
        if limits.micro_batches.is_exact() || limits.ranks.least > 1 {
            whole = batch * accumulate * ranks;
        }
        training.truncate(training.len() / whole * whole);
        if training.len() < FEWEST {
            return Err(Ended::NotApplicable);
        }
        let plan = TrainingPlan {
            training,
            validation: Vec::new(),
            batch,
            accumulate,
            ranks,
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
        let plan = self.with_several_updates(plan)?;
        self.with_samples_of_one_text(plan)
    }

    /// The same over rows of one text, each one token further, where the loop takes no others: there are
    /// loaders that cut nothing else.
    fn with_samples_of_one_text(&mut self, plan: TrainingPlan) -> Result<TrainingPlan, Ended> {
        let spec = self.case.spec;
        let refused = |answer: Result<TrainingPlan, Ended>| match answer {
            Ok(_) => Ok(false),
            Err(Ended::Unsupported(_)) => Ok(true),
            Err(end) => Err(end),
        };
        if !refused(self.taken(&spec, &plan))? {
            return Ok(plan);
        }
        let Some(training) = rows_of_one_text(&plan.training) else { return Ok(plan) };
        let cut = TrainingPlan { training, ..plan.clone() };
        Ok(if refused(self.taken(&spec, &cut))? { plan } else { cut })
    }

    /// The same with fewer ranks, micro-batches and samples in an update, where an epoch has only one.
    pub(super) fn with_several_updates(&mut self, mut plan: TrainingPlan) -> Result<TrainingPlan, Ended> {
        let limits = self.facts.info.limits;
        if plan.window() >= plan.training.len() && limits.ranks.least <= 1 {
            plan.ranks = 1;
        }
        if plan.window() >= plan.training.len() && limits.sequences.least <= 1 {
            plan.batch = 1;
        }
        if plan.window() >= plan.training.len() && limits.micro_batches.least <= 2 {
            plan.accumulate = 2.min(limits.micro_batches.most.max(1));
        }
        if plan.window() >= plan.training.len() {
            return Err(Ended::NotApplicable);
        }
        Ok(plan)
    }

    /// The plan as the trainer takes it: with this rule or another one, and with as many ranks or one. A first
    /// update by SGD has a norm of at most 1.
    pub(super) fn accepted(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<TrainingPlan, Ended> {
        let mut plan = self.taken(spec, plan)?;
        plan.learning_rate = self.rate_of(spec, &plan)?;
        Ok(plan)
    }

    /// The same at some learning rate.
    fn taken(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<TrainingPlan, Ended> {
        self.subject.configure(spec)?;
        let decayed = adam(decay_of(&plan.rule));
        let several = plan.ranks;
        let mut refused = None;
        for rule in [plan.rule, Rule::AdamW(decayed), Rule::Adam(adam(0.0))] {
            for ranks in [several, 1] {
                let plan = TrainingPlan { rule, ranks, learning_rate: 0.125, ..plan.clone() };
                match self.training()?.accepts(&plan) {
                    Ok(()) => return Ok(plan),
                    Err(why) => {
                        refused.get_or_insert(why);
                    }
                }
            }
        }
        Err(refused.map_or(Ended::NotApplicable, Ended::from))
    }

    fn rate_of(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<f64, Ended> {
        if !matches!(plan.rule, Rule::Sgd { .. }) {
            return Ok(self.adam_rate() / 8.0);
        }
        self.return_to_the_trial()?;
        let norm = self.first_norm(spec, plan)?;
        Ok(self.sgd_rate_at(norm))
    }

    /// The norm of the gradient of a whole update, at the parameters of the trial.
    pub(super) fn first_norm(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<f64, Ended> {
        let window: Vec<Vec<Vec<usize>>> = (0..plan.accumulate.min(plan.training.len() / plan.batch))
            .map(|at| vec![(at * plan.batch..(at + 1) * plan.batch).collect()])
            .collect();
        let update = traced(window);
        let batch = update.batch(plan).ok_or(Ended::NotApplicable)?;
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

    /// A plan with validations, as the trainer takes it: after every update, or at the ends of epochs alone.
    pub(super) fn accepted_with_validations(
        &mut self,
        spec: &LossSpec,
        plan: &TrainingPlan,
    ) -> Result<TrainingPlan, Ended> {
        match self.accepted(spec, &TrainingPlan { evaluate_every: 1, ..plan.clone() }) {
            Err(Ended::Unsupported(_)) => {
                self.accepted(spec, &TrainingPlan { evaluate_every: 0, ..plan.clone() })
            }
            answer => answer,
        }
    }

    /// Runs a plan from the parameters of the trial.
    pub(super) fn train(
        &mut self,
        spec: &LossSpec,
        plan: &TrainingPlan,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, Ended> {
        Ok(self.fresh_training(spec)?.train(plan, stop_after)?)
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

/// Adam as a plan has it, with this decay of every parameter.
pub(super) fn adam(weight_decay: f64) -> Adam {
    Adam {
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: 1e-8,
        epsilon_placement: EpsilonPlacement::AfterCorrection,
        weight_decay,
        decayed: Decayed::All,
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
            times[index] += 1;
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
fn rows_of_one_text(samples: &[Sequence]) -> Option<Vec<Sequence>> {
    let length = samples.iter().map(Sequence::len).min()?;
    let mut text = samples.first()?.input_ids()[..length].to_vec();
    text.extend(samples.iter().skip(1).filter_map(|sample| sample.input_ids()[..length].last()));
    let row =
        |tokens: &[u32]| Sequence::new(tokens.to_vec(), tokens.iter().copied().map(i64::from).collect());
    text.windows(length).map(|tokens| row(tokens).ok()).collect()
}

/// The weight decay of a rule.
fn decay_of(rule: &Rule) -> f64 {
    match rule {
        Rule::Sgd { weight_decay, .. } => *weight_decay,
        Rule::Adam(adam) | Rule::AdamW(adam) => adam.weight_decay,
    }
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
