//! The loop as a subject: a trainer under it, held to the laws of a whole training.

use crate::{
    Corpus, Event, Length, Objective, OneProcess, Progress, Ranks, Remainder, Run, RunError, Sampler,
    Schedule, SeededSampler, Semantics, Settings, semantics::DecayGroups,
};
use lossproof_spec::{BatchError, GlobalBatch, LossSpec, Reduction, Scope};
use lossproof_subject::{
    Claims, Collect, Evaluated, Evaluation, GradientSink, LoadParameters, LoopTrainer, Objectives,
    Observation, OptimizerSteps, ParameterInfo, PlannedSchedule, RankShares, Sample, SamplePlace, Subject,
    SubjectError, SubjectInfo, TokenLosses, TracedUpdate, TrainerState, TrainingEvent, TrainingLoop,
    TrainingPlan, TrainingTrace, Unsupported, UpstreamWeights, state_of,
};
use std::collections::BTreeSet;

/// Puts something between a loop and its trainer.
pub type Around = for<'a> fn(&'a mut dyn LoopTrainer, &Settings) -> Box<dyn LoopTrainer + 'a>;

/// What a loop under test is made of: functions that each decide one thing. [`LoopParts::LAWFUL`] are those of this
/// crate; a loop with a mistake has another one.
#[derive(Clone, Copy)]
pub struct LoopParts {
    /// What the loop means by its words.
    pub semantics: Semantics,
    /// What becomes of the settings that a plan asks for.
    pub settings: fn(Settings) -> Settings,
    /// What stands between the loop and its trainer, under these settings.
    pub around: Option<Around>,
    /// The order of the samples, of which there are so many, in a training that begins or is resumed.
    pub sampler: fn(&Settings, usize, bool) -> Box<dyn Sampler>,
    /// Where a training that had come so far is resumed.
    pub resumed: fn(&Settings, Progress) -> Progress,
    /// What is put back of what was saved.
    pub restored: fn(TrainerState) -> TrainerState,
    /// Whether a training under this plan goes on from what was saved under that one.
    pub goes_on: fn(&TrainingPlan, &TrainingPlan) -> bool,
    /// What is left behind.
    pub trace: fn(&TrainingPlan, TrainingTrace) -> TrainingTrace,
}

impl LoopParts {
    /// The loop of this crate, under lawful semantics.
    pub const LAWFUL: Self = Self {
        semantics: Semantics { decay: DecayGroups::ByShape, ..Semantics::LAWFUL },
        settings: |settings| settings,
        around: None,
        sampler: |settings, samples, _| Box::new(SeededSampler::new(samples, settings)),
        resumed: |_, progress| progress,
        restored: |state| state,
        goes_on: |plan, saved| plan == saved,
        trace: |_, trace| trace,
    };
}

/// A trainer under the loop, as a [`Subject`] with a [`TrainingLoop`].
///
/// It claims one semantics, which must be the mean over all tokens of an update: that is what the loop divides by.
/// A training is saved in memory; what checkpoints on a disk are held to is another matter.
pub struct LoopSubject {
    trainer: Box<dyn LoopTrainer>,
    claim: LossSpec,
    parts: LoopParts,
    ranks: Box<dyn Ranks>,
    saved: Option<Saved>,
}

/// Everything that the rest of a training depends on.
struct Saved {
    plan: TrainingPlan,
    progress: Progress,
    state: TrainerState,
}

impl LoopSubject {
    /// This trainer under the loop.
    ///
    /// # Errors
    /// When the trainer does not have the semantics that is claimed.
    pub fn new(trainer: Box<dyn LoopTrainer>, claim: LossSpec) -> Result<Self, Unsupported> {
        Self::with_parts(trainer, claim, LoopParts::LAWFUL)
    }

    /// The same with other parts.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_parts(
        trainer: Box<dyn LoopTrainer>,
        claim: LossSpec,
        parts: LoopParts,
    ) -> Result<Self, Unsupported> {
        Self::over(trainer, claim, parts, Box::new(OneProcess))
    }

    /// The same over ranks that may be elsewhere. Every process has such a subject, and is asked the same.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn over(
        mut trainer: Box<dyn LoopTrainer>,
        claim: LossSpec,
        parts: LoopParts,
        ranks: Box<dyn Ranks>,
    ) -> Result<Self, Unsupported> {
        trainer.configure(&claim)?;
        Ok(Self { trainer, claim, parts, ranks, saved: None })
    }

    fn settings(&self, plan: &TrainingPlan) -> Settings {
        (self.parts.settings)(Settings {
            semantics: self.parts.semantics,
            objective: Objective::Causal,
            block: self.trainer.info().limits.positions.max(2),
            remainder: Remainder::Kept,
            validation_percent: 0,
            batch: plan.batch,
            evaluation_batch: plan.batch,
            accumulate: plan.accumulate,
            ranks: plan.ranks,
            length: Length::Epochs(plan.epochs),
            seed: plan.seed,
            rule: plan.rule,
            learning_rate: plan.learning_rate,
            schedule: match plan.schedule {
                PlannedSchedule::Constant => Schedule::Constant,
                PlannedSchedule::Linear => Schedule::Linear,
            },
            warm_up: 0,
            clip: plan.clip,
            label_smoothing: self.claim.label_smoothing,
            dropout: plan.dropout,
            evaluate_every: plan.evaluate_every,
        })
    }

    /// Runs the rest of a plan, from what was saved where there is something.
    fn run(
        &mut self,
        plan: &TrainingPlan,
        from: Option<(Progress, TrainerState)>,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, SubjectError> {
        self.accepts(plan).map_err(|refused| failed(&refused))?;
        let settings = self.settings(plan);
        let corpus = PlannedCorpus(plan);
        let sampler = (self.parts.sampler)(&settings, plan.training.len(), from.is_some());
        let mut around;
        let trainer: &mut dyn LoopTrainer = match self.parts.around {
            Some(put_around) => {
                around = put_around(&mut *self.trainer, &settings);
                &mut *around
            }
            None => &mut *self.trainer,
        };
        let mut run = Run::over(trainer, &corpus, &*sampler, &settings, &plan.frozen, &mut *self.ranks)
            .map_err(trainer_error)?;
        if let Some((progress, state)) = from {
            run.trainer().restore(&(self.parts.restored)(state))?;
            run.resume((self.parts.resumed)(&settings, progress));
        }
        let mut trace = TrainingTrace::default();
        let mut updates = 0;
        while stop_after.is_none_or(|stop| updates < stop) {
            let Some(event) = run.advance().map_err(trainer_error)? else { break };
            match event {
                Event::Update(update) => {
                    updates += 1;
                    let mut parameters = Collect::default();
                    run.trainer().read_parameters(&mut parameters)?;
                    trace.events.push(TrainingEvent::Update(TracedUpdate {
                        samples: update.micro_batches.iter().map(|own| own.samples.clone()).collect(),
                        loss: Some(update.loss),
                        learning_rate: Some(update.learning_rate),
                        grad_norm: Some(update.grad_norm),
                        skipped: update.skipped,
                        parameters: parameters.into_tensors(),
                    }));
                }
                Event::Validation { validation, .. } => trace.events.push(evaluated(&validation)),
                Event::Epoch(epoch) => {
                    if !plan.validation.is_empty() {
                        trace.events.push(evaluated(&epoch.validation));
                    }
                    trace.events.push(TrainingEvent::EpochEnd(Some(epoch.training_loss)));
                }
            }
        }
        let progress = run.progress();
        let state = state_of(run.trainer())?;
        self.saved = Some(Saved { plan: plan.clone(), progress, state });
        Ok((self.parts.trace)(plan, trace))
    }
}

fn evaluated(validation: &crate::Validation) -> TrainingEvent {
    let tokens = usize::try_from(validation.tokens).unwrap_or(usize::MAX);
    TrainingEvent::Validation(Evaluated { loss: validation.loss, perplexity: validation.perplexity, tokens })
}

const NAME: &str = "lossproof-loop";

fn failed(error: &dyn std::fmt::Display) -> SubjectError {
    SubjectError::failed(NAME, error)
}

fn trainer_error(error: RunError) -> SubjectError {
    match error {
        RunError::Trainer(error) => error,
        error => failed(&error),
    }
}

/// The samples of a plan.
struct PlannedCorpus<'a>(&'a TrainingPlan);

impl Corpus for PlannedCorpus<'_> {
    fn training_samples(&self) -> usize {
        self.0.training.len()
    }

    fn validation_samples(&self) -> usize {
        self.0.validation.len()
    }

    fn training(&self, index: usize, place: SamplePlace) -> Result<Sample, BatchError> {
        Ok(Sample { sequence: self.0.training[index].clone(), place, prefix: 0 })
    }

    fn validation(&self, index: usize, _: u32) -> Result<Sample, BatchError> {
        let place = SamplePlace::default();
        Ok(Sample { sequence: self.0.validation[index].clone(), place, prefix: 0 })
    }
}

impl TrainingLoop for LoopSubject {
    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported> {
        let refuse = |what: String| Err(Unsupported::new(NAME, what));
        let LossSpec { reduction, scope, z_loss, .. } = self.claim;
        if reduction != Reduction::TokenMean || scope != Scope::Global || z_loss > 0.0 {
            return refuse(format!("training under {}: it divides by the tokens of an update", self.claim));
        }
        if let Err(error) = self.settings(plan).check() {
            return refuse(format!("a plan that is none: {error}"));
        }
        if let Some(most) = self.ranks.most()
            && plan.ranks > most
        {
            return refuse(format!("{} ranks: there are {most} processes", plan.ranks));
        }
        // Whether the trainer has the rule and the parameters, it says itself.
        self.trainer.begin(&plan.rule, &BTreeSet::new(), &plan.frozen)
    }

    fn resumes(&mut self) -> bool {
        true
    }

    fn masks_of_samples(&mut self) -> bool {
        true
    }

    fn train(&mut self, plan: &TrainingPlan, stop_after: Option<u64>) -> Result<TrainingTrace, SubjectError> {
        self.run(plan, None, stop_after)
    }

    fn resume(
        &mut self,
        plan: &TrainingPlan,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, SubjectError> {
        let Some(saved) = self.saved.take() else {
            return Err(failed(&"there is nothing to resume: train first"));
        };
        if !(self.parts.goes_on)(plan, &saved.plan) {
            let difference = difference(plan, &saved.plan);
            self.saved = Some(saved);
            return Err(SubjectError::OtherTraining { difference });
        }
        self.run(plan, Some((saved.progress, saved.state)), stop_after)
    }
}

/// What differs between a plan and the one that was saved.
fn difference(plan: &TrainingPlan, saved: &TrainingPlan) -> String {
    let numbers = [
        ("samples of a micro-batch", plan.batch, saved.batch),
        ("micro-batches of an update", plan.accumulate, saved.accumulate),
        ("ranks", plan.ranks, saved.ranks),
        ("samples", plan.training.len(), saved.training.len()),
    ];
    for (what, now, then) in numbers {
        if now != then {
            return format!("{now} {what}, and they were {then}");
        }
    }
    "samples, rule, rates, dropout or validation are not what they were".to_owned()
}

impl Subject for LoopSubject {
    fn info(&self) -> SubjectInfo {
        let info = self.trainer.info();
        SubjectInfo { name: format!("{} under {NAME}", info.name), claims: Claims::One(self.claim), ..info }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.trainer.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.trainer.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.trainer.configure(spec)
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.trainer.accumulate(batch, gradients)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        self.trainer.parameter_loading()
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        self.trainer.token_losses()
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        self.trainer.upstream_weights()
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        self.trainer.optimizer_steps()
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        self.trainer.evaluation()
    }

    fn objectives(&mut self) -> Option<&mut dyn Objectives> {
        self.trainer.objectives()
    }

    fn rank_shares(&mut self) -> Option<&mut dyn RankShares> {
        self.trainer.rank_shares()
    }

    fn training_loop(&mut self) -> Option<&mut dyn TrainingLoop> {
        Some(self)
    }
}
