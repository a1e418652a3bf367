//! Optimizer steps of a subject from fresh, with the gradients that they are made from.

use crate::{
    measuring::{accumulate, load},
    named_values::{NamedValues, global_norm, named_values},
    probe_parameters::ProbeParameters,
    simulated_optimizer::{StepInputs, StepOutcome},
};
use lossproof_numerics::vector;
use lossproof_spec::{
    Adam, Clip, Decayed, Dtype, EpsilonPlacement, GlobalBatch, LossSpec, Optimizer, Rule, TokenWeights,
    to_f64,
};
use lossproof_subject::{Collect, Subject, SubjectError};

/// Optimizer steps from fresh.
pub(crate) struct OptimizerRun {
    pub(crate) name: &'static str,
    pub(crate) optimizer: Optimizer,
    pub(crate) steps: Vec<(StepInputs, StepOutcome)>,
    /// The semantics that was in force.
    pub(crate) spec: LossSpec,
    pub(crate) batches: Vec<GlobalBatch>,
}

/// A run to be taken.
pub(crate) struct PlannedRun {
    pub(crate) name: &'static str,
    /// The semantics that is asked for, where the subject has it, and otherwise its first claim.
    spec: LossSpec,
    /// The optimizer for a first gradient of this norm.
    optimizer: Box<dyn Fn(f64) -> Optimizer>,
    batches: Vec<GlobalBatch>,
}

/// The runs to be taken, over a long window and a short one.
pub(crate) fn planned_runs(long: &GlobalBatch, short: &GlobalBatch, dtype: Dtype) -> Vec<PlannedRun> {
    let sgd = |momentum, weight_decay| Optimizer {
        rule: Rule::Sgd { momentum, weight_decay },
        ..Optimizer::sgd(0.125)
    };
    let overflow = if dtype == Dtype::F64 { 2.0_f64.powi(1023) } else { 2.0_f64.powi(127) };
    let (mean, sum) = (LossSpec::token_mean(), LossSpec::sum());
    let three = || vec![long.clone(); 3];
    // Past the warm-up, where a schedule may go on with what nobody declared.
    let past_four = || vec![long.clone(); 6];
    let once = || vec![long.clone()];
    let mut runs = vec![
        plan(
            "plain SGD",
            mean,
            Box::new(move |_| sgd(0.0, 0.0)),
            vec![long.clone(), short.clone(), long.clone()],
        ),
        plan("SGD with momentum and weight decay", mean, Box::new(move |_| sgd(0.5, 0.125)), three()),
        plan(
            "a warm-up of four steps",
            mean,
            Box::new(move |_| Optimizer { warm_up: 4, ..sgd(0.0, 0.0) }),
            past_four(),
        ),
        plan(
            "SGD with momentum under a warm-up of four steps",
            mean,
            Box::new(move |_| Optimizer { warm_up: 4, ..sgd(0.5, 0.0) }),
            three(),
        ),
        plan("clipping at half the norm", sum, Box::new(clipped(0.5, 1.0)), once()),
        plan("clipping above the norm", sum, Box::new(clipped(1.25, 1.0)), once()),
        // Above the square of the norm too: who compares that clips nothing here, who scales up still does.
        plan(
            "clipping far above the norm",
            sum,
            Box::new(move |norm| clipped(4.0 * norm.max(1.0), 1.0)(norm)),
            once(),
        ),
        plan("clipping with a loss scale", sum, Box::new(clipped(1.25, 1024.0)), once()),
        plan(
            "a loss scale of 1024",
            mean,
            Box::new(move |_| Optimizer { loss_scale: 1024.0, ..sgd(0.0, 0.0) }),
            once(),
        ),
        plan(
            "a loss scale that overflows",
            sum,
            Box::new(move |_| Optimizer { loss_scale: overflow, warm_up: 4, ..sgd(0.0, 0.0) }),
            vec![long.clone(), long.clone()],
        ),
    ];
    runs.extend(adam_runs(long));
    runs
}

/// The runs with Adam and `AdamW`.
fn adam_runs(long: &GlobalBatch) -> Vec<PlannedRun> {
    let adam = Adam {
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: 1e-3,
        epsilon_placement: EpsilonPlacement::AfterCorrection,
        weight_decay: 0.125,
        decayed: Decayed::Matrices,
    };
    let (mean, sum) = (LossSpec::token_mean(), LossSpec::sum());
    let three = || vec![long.clone(); 3];
    vec![
        plan(
            "Adam",
            mean,
            Box::new(move |_| Optimizer { rule: Rule::Adam(adam), ..Optimizer::sgd(0.125) }),
            three(),
        ),
        plan(
            "AdamW",
            mean,
            Box::new(move |_| Optimizer { rule: Rule::AdamW(adam), ..Optimizer::sgd(0.125) }),
            three(),
        ),
        plan(
            "AdamW under a warm-up of four steps",
            mean,
            Box::new(move |_| Optimizer { rule: Rule::AdamW(adam), warm_up: 4, ..Optimizer::sgd(0.125) }),
            three(),
        ),
        // An epsilon as large as the gradient, since the scale of one that is far larger moves nothing.
        plan(
            "AdamW, clipping at a quarter of the norm",
            sum,
            Box::new(move |norm| Optimizer {
                rule: Rule::AdamW(Adam { epsilon: 0.125, weight_decay: 0.0, ..adam }),
                ..clipped(0.25, 1.0)(norm)
            }),
            vec![long.clone()],
        ),
    ]
}

/// A run by its parts.
fn plan(
    name: &'static str,
    spec: LossSpec,
    optimizer: Box<dyn Fn(f64) -> Optimizer>,
    batches: Vec<GlobalBatch>,
) -> PlannedRun {
    PlannedRun { name, spec, optimizer, batches }
}

/// Plain SGD that clips at this share of the norm of the first gradient.
fn clipped(share: f64, loss_scale: f64) -> impl Fn(f64) -> Optimizer {
    move |norm| Optimizer {
        clip: Some(Clip { max_norm: share * norm, epsilon: 1e-6 }),
        loss_scale,
        ..Optimizer::sgd(0.125)
    }
}

impl PlannedRun {
    /// Has a subject take the steps; `None` where it has no such semantics or optimizer.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn take(
        self,
        subject: &mut dyn Subject,
        parameters: &ProbeParameters,
    ) -> Result<Option<OptimizerRun>, SubjectError> {
        load(subject, parameters.general())?;
        let claim = subject.info().claims.first();
        let mut choices = [self.spec, claim].into_iter();
        let Some(spec) = choices.find(|spec| subject.configure(spec).is_ok()) else { return Ok(None) };
        let mut steps: Vec<(StepInputs, StepOutcome)> = Vec::new();
        let mut started = None;
        for batch in &self.batches {
            let before = read(subject)?;
            let gradient = accumulate(subject, batch)?.1;
            let optimizer = *started.get_or_insert_with(|| (self.optimizer)(global_norm(&gradient)));
            let mut contributions = Vec::new();
            if optimizer.clip.is_some() {
                let mut first = 0;
                for micro_batch in batch.micro_batches() {
                    let alone = GlobalBatch::of_micro_batch(micro_batch.clone());
                    let share = share(&spec, batch, first, &alone);
                    first += micro_batch.sequences().len();
                    let Some(share) = share else { continue };
                    let mut gradient = accumulate(subject, &alone)?.1;
                    for values in gradient.values_mut() {
                        vector::scale(values, share);
                    }
                    contributions.push(gradient);
                }
            }
            let Some(taken) = subject.optimizer_steps() else { return Ok(None) };
            if steps.is_empty() && taken.start(&optimizer).is_err() {
                return Ok(None);
            }
            let report = taken.step(batch)?;
            let micro_batches = u32::try_from(batch.longest_window()).unwrap_or(u32::MAX);
            let outcome = StepOutcome {
                values: Some(read(subject)?),
                grad_norm: Some(report.grad_norm),
                clip_factor: Some(report.clip_factor),
                learning_rate: Some(report.learning_rate),
                skipped: Some(report.skipped),
            };
            steps.push((StepInputs { before, gradient, contributions, micro_batches }, outcome));
        }
        let (name, batches) = (self.name, self.batches);
        Ok(started.map(|optimizer| OptimizerRun { name, optimizer, steps, spec, batches }))
    }
}

/// How much of its own gradient a micro-batch adds to that of a batch, `first` being its first sequence there; `None`
/// where it adds nothing.
fn share(spec: &LossSpec, batch: &GlobalBatch, first: usize, alone: &GlobalBatch) -> Option<f64> {
    let supervised = alone.sequences().position(|sequence| sequence.supervised() > 0)?;
    let own = TokenWeights::new(spec, &alone.layout()).ok()?;
    let whole = TokenWeights::new(spec, &batch.layout()).ok()?;
    Some(to_f64(&(whole.of_sequence(first + supervised) / own.of_sequence(supervised))))
}

/// Parameters as they are after the last step.
pub(crate) fn read(subject: &mut dyn Subject) -> Result<NamedValues, SubjectError> {
    let mut sink = Collect::default();
    if let Some(steps) = subject.optimizer_steps() {
        steps.read(&mut sink)?;
    }
    Ok(named_values(&sink.into_tensors()))
}
