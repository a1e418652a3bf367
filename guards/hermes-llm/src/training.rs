//! Whole trainings by the release's own `Trainer::train_epoch`, and what they leave behind after every
//! update.
//!
//! An epoch of the release cannot be looked into. So it is run again and again, from the same parameters and
//! in a new `Trainer` each time, over more and more of its text: what an epoch has done after so many
//! micro-batches is what it does where the text ends there. `Trainer::global_step` says whether the last of
//! them brought an update. Nothing is left to chance, so that each run is the beginning of the next, which a
//! test holds to the bit.

use crate::{failed, model::Model, shipped::Shipped};
use hermes_llm::{Config, config::TrainingConfig};
use lossproof::{GradientSink, ParameterInfo, Sequence, SubjectError, TensorSet};
use lossproof_subject::{
    Collect, Evaluated, PlannedSchedule, TracedUpdate, TrainingEvent, TrainingPlan, TrainingTrace,
};

/// The text of which these samples are the rows, each one token further than the one before; `None` where
/// they are not, and of none.
pub(crate) fn text_of(samples: &[Sequence]) -> Option<Vec<u32>> {
    let first = samples.first()?;
    let mut text = first.input_ids().to_vec();
    text.extend(samples[1..].iter().filter_map(|sample| sample.input_ids().last()));
    let is_row = |(place, sample): (usize, &Sequence)| {
        sample.input_ids() == text.get(place..place + first.len()).unwrap_or_default()
            && sample.targets() == sample.input_ids()
            && sample.supervised() + 1 == sample.len()
    };
    samples.iter().enumerate().all(is_row).then_some(text)
}

/// The first setting of a plan that the release does not have, but for its update rule.
pub(crate) fn lacking(plan: &TrainingPlan) -> Option<String> {
    if plan.ranks != 1 {
        return Some(format!("{} ranks, without NCCL", plan.ranks));
    }
    if plan.schedule != PlannedSchedule::Constant {
        return Some("a learning rate that changes: no step asks its schedule".to_owned());
    }
    if plan.dropout > 0.0 {
        return Some("dropout under a seed".to_owned());
    }
    if plan.evaluate_every > 0 && !plan.validation.is_empty() {
        return Some("validations but at the ends of epochs: nothing asks `eval_every`".to_owned());
    }
    let validated = plan.validation.is_empty() || text_of(&plan.validation).is_some();
    (!validated || text_of(&plan.training).is_none())
        .then(|| "samples that are not rows of one text, each one token further".to_owned())
}

/// A training of the release.
pub(crate) struct Training<'a> {
    pub(crate) config: &'a Config,
    pub(crate) settings: TrainingConfig,
    /// The layers that it is told to freeze.
    pub(crate) frozen: usize,
    pub(crate) plan: &'a TrainingPlan,
    /// The parameters that it starts from.
    pub(crate) start: &'a Model,
    /// The parameters that are read after an update.
    pub(crate) read: &'a [ParameterInfo],
}

impl Training<'_> {
    /// Runs it to its end or to an update. The model has its last parameters afterwards.
    pub(crate) fn run(
        &self,
        model: &mut Model,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, SubjectError> {
        let text =
            text_of(&self.plan.training).ok_or_else(|| failed("samples that are not rows of one text"))?;
        let rows = self.plan.training.len();
        let mut trace = TrainingTrace::default();
        let mut updates = 0;
        model.take(self.start)?;
        if stop_after == Some(0) {
            return Ok(trace);
        }
        for epoch in 0..self.plan.epochs {
            let mut since = Vec::new();
            for ends in (self.plan.batch..=rows).step_by(self.plan.batch) {
                since.push(vec![(ends - self.plan.batch..ends).collect()]);
                let mut trainer = self.trainer()?;
                self.epochs(&mut trainer, &text, epoch)?;
                // The first rows of the text.
                self.epoch(&mut trainer, &text[..text.len() - (rows - ends)])?;
                if trainer.updates() == updates {
                    continue;
                }
                updates += 1;
                trainer.give(model)?;
                trace.events.push(TrainingEvent::Update(self.update(std::mem::take(&mut since), model)?));
                if stop_after.is_some_and(|stop| updates as u64 >= stop) {
                    return Ok(trace);
                }
            }
            let mut trainer = self.trainer()?;
            let loss = self.epochs(&mut trainer, &text, epoch + 1)?;
            trainer.give(model)?;
            if !self.plan.validation.is_empty() {
                trace.events.push(TrainingEvent::Validation(self.validation(&trainer)?));
            }
            trace.events.push(TrainingEvent::EpochEnd(loss));
        }
        Ok(trace)
    }

    /// A trainer at the beginning.
    fn trainer(&self) -> Result<Shipped, SubjectError> {
        Shipped::new(self.config, self.settings.clone(), self.start, self.frozen)
    }

    /// So many whole epochs. Returns the loss that the release reports of the last of them.
    fn epochs(&self, trainer: &mut Shipped, text: &[u32], count: u32) -> Result<Option<f64>, SubjectError> {
        (0..count).try_fold(None, |_, _| self.epoch(trainer, text).map(Some))
    }

    fn epoch(&self, trainer: &mut Shipped, text: &[u32]) -> Result<f64, SubjectError> {
        trainer.train(text, self.predictions(), self.plan.batch)
    }

    /// The predictions of a row.
    fn predictions(&self) -> usize {
        self.plan.training.first().map_or(0, |row| row.len() - 1)
    }

    fn update(&self, samples: Vec<Vec<Vec<usize>>>, model: &Model) -> Result<TracedUpdate, SubjectError> {
        let mut parameters = Collect::default();
        for info in self.read {
            model.hand_over(&info.name, &mut parameters as &mut dyn GradientSink)?;
        }
        let parameters: TensorSet = parameters.into_tensors();
        // It shows the loss of an update on a progress bar, to four places, and returns that of an epoch.
        let (loss, learning_rate, grad_norm) = (None, None, None);
        Ok(TracedUpdate { samples, loss, learning_rate, grad_norm, skipped: false, parameters })
    }

    /// What `Trainer::evaluate` reports. The perplexity and the count of what its loader hands over are
    /// added.
    fn validation(&self, trainer: &Shipped) -> Result<Evaluated, SubjectError> {
        let samples = &self.plan.validation;
        let text = text_of(samples).ok_or_else(|| failed("samples that are not rows of one text"))?;
        let predictions = samples.first().map_or(0, |row| row.len() - 1);
        let (loss, batches) = trainer.evaluate(&text, predictions, self.plan.batch)?;
        Ok(Evaluated { loss, perplexity: loss.exp(), tokens: batches * self.plan.batch * predictions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            pico,
            probe::{model as start, parameters},
            rows,
        },
        written_out::{self, Window, WrittenOut},
    };
    use lossproof::{Optimizer, cases::edit::edit};

    const TEXT: [u32; 10] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3];
    const ROW: usize = 4;

    /// Rows of the text.
    fn samples() -> Vec<Sequence> {
        let labels = |row: &[u32]| row.iter().copied().map(i64::from).collect();
        TEXT.windows(ROW).map(|row| Sequence::new(row.to_vec(), labels(row)).unwrap()).collect()
    }

    /// Seven rows, of which the last fills no micro-batch, and the one before it no window.
    fn plan() -> TrainingPlan {
        TrainingPlan {
            training: samples(),
            validation: samples()[..4].to_vec(),
            batch: 2,
            accumulate: 2,
            ranks: 1,
            epochs: 3,
            seed: 0,
            rule: Optimizer::sgd(0.0).rule,
            learning_rate: 0.0625,
            schedule: PlannedSchedule::Constant,
            clip: None,
            dropout: 0.0,
            evaluate_every: 0,
            frozen: std::collections::BTreeSet::new(),
        }
    }

    fn settings(plan: &TrainingPlan) -> TrainingConfig {
        TrainingConfig {
            learning_rate: plan.learning_rate,
            gradient_accumulation_steps: plan.accumulate,
            grad_clip: 2.0,
            ..TrainingConfig::default()
        }
    }

    fn run(plan: &TrainingPlan, stop_after: Option<u64>) -> (TrainingTrace, Model) {
        let (start, mut model) = (start(), Model::new(&pico()).unwrap());
        let read = start.parameters();
        let training = Training {
            config: &pico(),
            settings: settings(plan),
            frozen: 0,
            plan,
            start: &start,
            read: &read,
        };
        let trace = training.run(&mut model, stop_after).unwrap();
        (trace, model)
    }

    #[test]
    fn samples_are_a_text_where_each_is_one_token_further() {
        assert_eq!(text_of(&samples()).as_deref(), Some(&TEXT[..]));
        assert_eq!(text_of(&samples()[2..3]).as_deref(), Some(&TEXT[2..6]));
        assert_eq!(text_of(&[]), None);
        let mut reversed = samples();
        reversed.reverse();
        assert_eq!(text_of(&reversed), None);
        let mut other_label = samples();
        other_label[3] = edit(&other_label[3], |fields| (fields.labels[2], fields.targets[2]) = (7, 7));
        assert_eq!(text_of(&other_label), None);
    }

    #[test]
    fn a_training_in_pieces_is_the_released_one_to_the_bit() {
        let plan = plan();
        let (trace, model) = run(&plan, None);
        let start = start();
        let mut whole = Shipped::new(&pico(), settings(&plan), &start, 0).unwrap();
        let mut after = Model::new(&pico()).unwrap();
        let mut events = trace.events.iter();
        for _ in 0..plan.epochs {
            let loss = whole.train(&TEXT, ROW - 1, plan.batch).unwrap();
            whole.give(&mut after).unwrap();
            let Some(TrainingEvent::Update(update)) = events.next() else { panic!("an update") };
            assert_eq!(update.samples, [[[0, 1]], [[2, 3]]]);
            assert_eq!(update.parameters, parameters(&after));
            let Some(TrainingEvent::Validation(validation)) = events.next() else { panic!("a validation") };
            let (evaluated, batches) = whole.evaluate(&TEXT[..ROW + 3], ROW - 1, plan.batch).unwrap();
            assert_eq!(validation.loss.to_bits(), evaluated.to_bits());
            assert_eq!((validation.tokens, batches), (12, 2));
            let Some(TrainingEvent::EpochEnd(Some(logged))) = events.next() else { panic!("an end") };
            assert_eq!(logged.to_bits(), loss.to_bits());
        }
        assert_eq!(events.next(), None);
        assert_eq!(parameters(&model), parameters(&after));
        assert_ne!(parameters(&model), parameters(&start));
    }

    #[test]
    fn every_update_of_it_is_that_of_the_written_out_loop() {
        let plan = TrainingPlan { accumulate: 1, validation: Vec::new(), ..plan() };
        let (trace, _) = run(&plan, None);
        let own = start();
        let mut written_out = WrittenOut::new(&settings(&plan), &own).unwrap();
        let mut updates = trace.updates();
        for _ in 0..plan.epochs {
            for pair in samples().chunks_exact(plan.batch) {
                let inputs: Vec<&[u32]> = pair.iter().map(|row| &row.input_ids()[..ROW - 1]).collect();
                let labels: Vec<&[u32]> = pair.iter().map(|row| &row.input_ids()[1..]).collect();
                let Window { last, .. } =
                    written_out::forward(&own, &[rows(&inputs, &labels).unwrap()]).unwrap();
                written_out.step(&own, &last).unwrap();
                assert_eq!(updates.next().unwrap().parameters, parameters(&own));
            }
        }
        assert_eq!(updates.next(), None);
    }

    #[test]
    fn a_training_that_is_stopped_is_the_beginning_of_one_that_is_not() {
        let plan = TrainingPlan { accumulate: 1, ..plan() };
        let (whole, _) = run(&plan, None);
        for stop in [0, 1, 3, 5] {
            let (part, model) = run(&plan, Some(stop));
            assert_eq!(part.updates().count() as u64, stop);
            assert_eq!(part.events[..], whole.events[..part.events.len()]);
            let last =
                part.updates().last().map_or_else(|| parameters(&start()), |own| own.parameters.clone());
            assert_eq!(parameters(&model), last);
        }
    }
}
