//! Loops that are honest and not like ours: batches of one size, one update rule, no log, half precision, an end where
//! the loss is not a number. No law of a training may break.

use super::laws::reports;
use lossproof_laws::{Report, Verdict};
use lossproof_loop::LoopSubject;
use lossproof_spec::{Decayed, Dtype, GlobalBatch, LossSpec, Rank, Rule};
use lossproof_subject::{
    Count, Discard, Dropout, GradientSink, Limits, LoadParameters, LogPolicy, LoopTrainer, Moment,
    Observation, ParameterInfo, PlannedSchedule, Subject, SubjectError, SubjectInfo, Tensor, TensorSet,
    TensorValues, TokenLosses, TrainerState, TrainingBatch, TrainingEvent, TrainingLoop, TrainingPlan,
    TrainingTrace, Unsupported, state_of,
};
use lossproof_tests::{bf16, training_loop::Under};
use std::collections::BTreeSet;

type Answer<T> = Result<T, SubjectError>;

/// What a loop does otherwise than ours.
#[derive(Clone, Copy)]
struct Habits {
    limits: fn(Limits) -> Limits,
    /// The first setting that it does not have.
    lacks: fn(&TrainingPlan) -> Option<&'static str>,
    log_policy: LogPolicy,
    /// Whether it logs anything.
    logs: bool,
    /// Whether it ends over a loss that is not a number.
    ends: bool,
}

const OURS: Habits = Habits {
    limits: |limits| limits,
    lacks: |_| None,
    log_policy: LogPolicy::Window,
    logs: true,
    ends: false,
};

/// Our loop with other habits.
struct Stranger {
    inner: LoopSubject,
    habits: Habits,
}

impl Stranger {
    /// What it leaves behind, as it does.
    fn trace(&self, mut trace: TrainingTrace) -> Answer<TrainingTrace> {
        if self.habits.ends && trace.updates().any(|update| update.loss.is_some_and(f64::is_nan)) {
            return Err(SubjectError::failed("stranger", "the loss is not a number"));
        }
        for event in &mut trace.events {
            match event {
                TrainingEvent::Update(update) => {
                    if !self.habits.logs {
                        (update.learning_rate, update.grad_norm) = (None, None);
                    }
                    // Of several ranks this loop would log the first, which nothing here computes.
                    if !self.habits.logs || self.habits.log_policy == LogPolicy::FirstRank {
                        update.loss = None;
                    }
                }
                TrainingEvent::EpochEnd(loss) if !self.habits.logs => *loss = None,
                _ => {}
            }
        }
        Ok(trace)
    }
}

impl Subject for Stranger {
    fn info(&self) -> SubjectInfo {
        let info = self.inner.info();
        let Habits { limits, log_policy, .. } = self.habits;
        SubjectInfo { limits: limits(info.limits), log_policy, ..info }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.inner.parameters()
    }

    fn reset(&mut self) -> Answer<()> {
        self.inner.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.inner.configure(spec)
    }

    fn accumulate(&mut self, batch: &GlobalBatch, gradients: &mut dyn GradientSink) -> Answer<Observation> {
        let seen = self.inner.accumulate(batch, gradients)?;
        if self.habits.log_policy == LogPolicy::Window {
            return Ok(seen);
        }
        let first: Vec<Rank> = batch.ranks()[..1].to_vec();
        let first = GlobalBatch::new(first).expect("one rank is a batch");
        Ok(Observation { loss: self.inner.accumulate(&first, &mut Discard)?.loss, ..seen })
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        self.inner.parameter_loading()
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        self.inner.token_losses()
    }

    fn training_loop(&mut self) -> Option<&mut dyn TrainingLoop> {
        Some(self)
    }
}

impl TrainingLoop for Stranger {
    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported> {
        match (self.habits.lacks)(plan) {
            Some(what) => Err(Unsupported::new("stranger", what)),
            None => self.inner.accepts(plan),
        }
    }

    fn resumes(&mut self) -> bool {
        true
    }

    fn train(&mut self, plan: &TrainingPlan, stop_after: Option<u64>) -> Answer<TrainingTrace> {
        let trace = self.inner.train(plan, stop_after)?;
        self.trace(trace)
    }

    fn resume(&mut self, plan: &TrainingPlan, stop_after: Option<u64>) -> Answer<TrainingTrace> {
        let trace = self.inner.resume(plan, stop_after)?;
        self.trace(trace)
    }
}

/// A trainer that holds its parameters in bf16, and computes in f32.
struct Rounded(Box<dyn LoopTrainer>);

fn in_bf16(tensors: &TensorSet) -> TensorSet {
    let mut rounded = TensorSet::new();
    for (name, tensor) in tensors {
        let values = tensor.to_f64().into_iter().map(bf16).collect();
        let values = Tensor::new(tensor.shape().to_vec(), TensorValues::F32(values)).expect("the same shape");
        rounded.insert(name.clone(), values);
    }
    rounded
}

impl Subject for Rounded {
    fn info(&self) -> SubjectInfo {
        let mut info = self.0.info();
        info.dtypes.parameters = Dtype::Bf16;
        info
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.0.parameters()
    }

    fn reset(&mut self) -> Answer<()> {
        self.0.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.0.configure(spec)
    }

    fn accumulate(&mut self, batch: &GlobalBatch, gradients: &mut dyn GradientSink) -> Answer<Observation> {
        self.0.accumulate(batch, gradients)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        self.0.token_losses()
    }
}

impl LoadParameters for Rounded {
    fn load(&mut self, parameters: &TensorSet) -> Answer<()> {
        self.0.load(&in_bf16(parameters))
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Answer<()> {
        let values: Vec<f64> = values.iter().map(|&value| f64::from(bf16(value))).collect();
        self.0.set(name, &values)
    }
}

impl LoopTrainer for Rounded {
    fn begin(
        &mut self,
        rule: &Rule,
        undecayed: &BTreeSet<String>,
        frozen: &BTreeSet<String>,
    ) -> Result<(), Unsupported> {
        self.0.begin(rule, undecayed, frozen)
    }

    fn backward(
        &mut self,
        batch: &TrainingBatch,
        loss: &LossSpec,
        factor: f64,
        dropout: &Dropout,
    ) -> Answer<Observation> {
        self.0.backward(batch, loss, factor, dropout)
    }

    fn gradient_norms(&mut self) -> Answer<Vec<f64>> {
        self.0.gradient_norms()
    }

    fn read_gradient(&mut self, gradient: &mut dyn GradientSink) -> Answer<()> {
        self.0.read_gradient(gradient)
    }

    fn write_gradient(&mut self, gradient: &TensorSet) -> Answer<()> {
        self.0.write_gradient(gradient)
    }

    fn update(&mut self, learning_rate: f64, factor: f64) -> Answer<()> {
        self.0.update(learning_rate, factor)?;
        let state = state_of(&mut *self.0)?;
        self.0.restore(&TrainerState { parameters: in_bf16(&state.parameters), ..state })
    }

    fn zero_gradient(&mut self) -> Answer<()> {
        self.0.zero_gradient()
    }

    fn supervised_losses(&mut self, batch: &TrainingBatch) -> Answer<Vec<f64>> {
        self.0.supervised_losses(batch)
    }

    fn read_parameters(&mut self, parameters: &mut dyn GradientSink) -> Answer<()> {
        self.0.read_parameters(parameters)
    }

    fn read_moments(&mut self, moment: Moment, moments: &mut dyn GradientSink) -> Answer<()> {
        self.0.read_moments(moment, moments)
    }

    fn updates(&self) -> u32 {
        self.0.updates()
    }

    fn restore(&mut self, state: &TrainerState) -> Answer<()> {
        self.0.restore(state)
    }
}

/// Holds a loop of these habits to every law of a training: none fails, and these alone are not decided.
#[track_caller]
fn breaks_none(trainer: Box<dyn LoopTrainer>, habits: Habits, undecided: &[&str]) {
    let inner = LoopSubject::new(trainer, LossSpec::token_mean()).expect("the loss is claimed");
    let reports: Vec<Report> = reports(&mut Stranger { inner, habits }, 24);
    let broken = reports.iter().filter(|report| matches!(report.verdict, Verdict::Fail | Verdict::Errored));
    let broken: Vec<String> = broken.map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let open = reports.iter().filter(|report| report.verdict != Verdict::Pass);
    let ids: Vec<&str> = open.clone().map(|report| report.law.id()).collect();
    assert_eq!(ids, undecided, "{}", open.map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

/// Two samples in a micro-batch, two micro-batches in an update, always.
fn of_one_size(limits: Limits) -> Limits {
    let (one, two) = (Count::exactly(1), Count::exactly(2));
    Limits { ranks: one, micro_batches: two, sequences: two, ..limits }
}

#[test]
fn batches_of_one_size_and_one_rule() {
    let lacks = |plan: &TrainingPlan| match plan.rule {
        Rule::AdamW(adam)
            if adam.decayed == Decayed::Matrices
                && adam.weight_decay.to_bits() == 0.01_f64.to_bits()
                && adam.beta_2 > 0.99
                && adam.epsilon < 1e-7 =>
        {
            let uneven = plan.batch != 2 || plan.accumulate != 2 || !plan.training.len().is_multiple_of(4);
            let uneven = uneven || !plan.validation.len().is_multiple_of(2);
            let changes = plan.schedule != PlannedSchedule::Constant || plan.dropout > 0.0;
            let more = plan.evaluate_every > 0 || !plan.frozen.is_empty();
            (uneven || changes || more).then_some("such a plan")
        }
        _ => Some("another rule than AdamW with its usual numbers"),
    };
    let habits = Habits { limits: of_one_size, lacks, ..OURS };
    // It has no schedule, no SGD, nothing frozen and no dropout, and no other size that a resume could change to.
    let undecided = ["resume-otherwise", "training-schedule", "training-split", "frozen", "dropout"];
    breaks_none(Under::Reference.trainer(Dtype::F64), habits, &undecided);
}

#[test]
fn nothing_logged() {
    let habits = Habits { logs: false, ..OURS };
    breaks_none(Under::Reference.trainer(Dtype::F64), habits, &["training-loss", "not-a-number"]);
}

#[test]
fn the_loss_of_the_first_rank_and_of_a_whole_epoch() {
    let habits = Habits { log_policy: LogPolicy::FirstRank, ..OURS };
    // No loss of an update is logged, and every one of an epoch without a finite one is skipped.
    breaks_none(Under::Reference.trainer(Dtype::F64), habits, &["not-a-number"]);
}

#[test]
fn an_end_where_the_loss_is_not_a_number() {
    let habits = Habits { ends: true, ..OURS };
    breaks_none(Under::Reference.trainer(Dtype::F64), habits, &["not-a-number", "skipped-update"]);
}

#[test]
fn parameters_in_half_precision() {
    // What rounding to eight digits hides is not taken for proven.
    let undecided = [
        "training-validation",
        "training-update",
        "training-schedule",
        "training-clipping",
        "training-loss",
        "training-split",
        "skipped-update",
        "frozen",
        "dropout",
    ];
    breaks_none(Box::new(Rounded(Under::Reference.trainer(Dtype::F32))), OURS, &undecided);
}
