//! Optimizer steps from fresh, with the gradients that they are made from.

use super::{
    examination::{load, values},
    oracle::Values,
    states::States,
    steps::{Shown, Window},
};
use lossproof_numerics::norm;
use lossproof_spec::{Adam, Clip, Decayed, Dtype, EpsilonPlacement, GlobalBatch, LossSpec, Optimizer, Rule};
use lossproof_subject::{Collect, Subject, SubjectError};

/// Optimizer steps from fresh.
pub(super) struct Run {
    pub(super) name: &'static str,
    pub(super) optimizer: Optimizer,
    pub(super) steps: Vec<(Window, Shown)>,
}

type Planned = (&'static str, LossSpec, Box<dyn Fn(f64) -> Optimizer>, Vec<GlobalBatch>);

/// The runs: name, spec, the optimizer for a gradient of this norm, the batches.
pub(super) fn runs(long: &GlobalBatch, short: &GlobalBatch, dtype: Dtype) -> Vec<Planned> {
    let sgd = |momentum, weight_decay| Optimizer {
        rule: Rule::Sgd { momentum, weight_decay },
        ..Optimizer::sgd(0.125)
    };
    let adam = Adam {
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: 1e-3,
        epsilon_placement: EpsilonPlacement::AfterCorrection,
        weight_decay: 0.125,
        decayed: Decayed::Matrices,
    };
    let clipped = |share: f64, loss_scale: f64| {
        move |norm: f64| Optimizer {
            clip: Some(Clip { max_norm: share * norm, epsilon: 1e-6 }),
            loss_scale,
            ..Optimizer::sgd(0.125)
        }
    };
    let overflow = if dtype == Dtype::F64 { 2.0_f64.powi(1023) } else { 2.0_f64.powi(127) };
    let (mean, sum) = (LossSpec::token_mean(), LossSpec::sum());
    let three = || vec![long.clone(), long.clone(), long.clone()];
    let once = || vec![long.clone()];
    vec![
        (
            "plain SGD",
            mean,
            Box::new(move |_| sgd(0.0, 0.0)),
            vec![long.clone(), short.clone(), long.clone()],
        ),
        ("SGD with momentum and weight decay", mean, Box::new(move |_| sgd(0.5, 0.125)), three()),
        (
            "a warm-up of four steps",
            mean,
            Box::new(move |_| Optimizer { warm_up: 4, ..sgd(0.0, 0.0) }),
            three(),
        ),
        ("clipping at half the norm", sum, Box::new(clipped(0.5, 1.0)), once()),
        ("clipping above the norm", sum, Box::new(clipped(1.25, 1.0)), once()),
        ("clipping with a loss scale", sum, Box::new(clipped(1.25, 1024.0)), once()),
        (
            "a loss scale of 1024",
            mean,
            Box::new(move |_| Optimizer { loss_scale: 1024.0, ..sgd(0.0, 0.0) }),
            once(),
        ),
        (
            "a loss scale that overflows",
            sum,
            Box::new(move |_| Optimizer { loss_scale: overflow, warm_up: 4, ..sgd(0.0, 0.0) }),
            vec![long.clone(), long.clone()],
        ),
        (
            "Adam",
            mean,
            Box::new(move |_| Optimizer { rule: Rule::Adam(adam), ..Optimizer::sgd(0.125) }),
            three(),
        ),
        (
            "AdamW",
            mean,
            Box::new(move |_| Optimizer { rule: Rule::AdamW(adam), ..Optimizer::sgd(0.125) }),
            three(),
        ),
    ]
}

/// Takes the steps of a run; `None` where the subject has no such semantics or optimizer.
pub(super) fn run(
    subject: &mut dyn Subject,
    states: &States,
    name: &'static str,
    spec: &LossSpec,
    optimizer: &dyn Fn(f64) -> Optimizer,
    batches: &[GlobalBatch],
) -> Result<Option<Run>, SubjectError> {
    load(subject, &states.general)?;
    if subject.configure(spec).is_err() {
        return Ok(None);
    }
    let mut steps: Vec<(Window, Shown)> = Vec::new();
    let mut started = None;
    for batch in batches {
        let before = read(subject)?;
        let gradient = gradient(subject, batch)?;
        let optimizer = *started.get_or_insert_with(|| optimizer(norm(gradient.values().flatten())));
        let mut contributions = Vec::new();
        if optimizer.clip.is_some() {
            for micro_batch in batch.micro_batches() {
                contributions
                    .push(self::gradient(subject, &GlobalBatch::of_micro_batch(micro_batch.clone()))?);
            }
        }
        let Some(taken) = subject.optimizer_steps() else { return Ok(None) };
        if steps.is_empty() && taken.start(&optimizer).is_err() {
            return Ok(None);
        }
        let report = taken.step(batch)?;
        let micro_batches = u32::try_from(batch.longest_window()).unwrap_or(u32::MAX);
        let shown = Shown {
            values: Some(read(subject)?),
            grad_norm: Some(report.grad_norm),
            clip_factor: Some(report.clip_factor),
            learning_rate: Some(report.learning_rate),
            skipped: Some(report.skipped),
        };
        steps.push((Window { before, gradient, contributions, micro_batches }, shown));
    }
    Ok(started.map(|optimizer| Run { name, optimizer, steps }))
}

fn gradient(subject: &mut dyn Subject, batch: &GlobalBatch) -> Result<Values, SubjectError> {
    let mut sink = Collect::default();
    subject.accumulate(batch, &mut sink)?;
    Ok(values(&sink.into_tensors()))
}

fn read(subject: &mut dyn Subject) -> Result<Values, SubjectError> {
    let mut sink = Collect::default();
    if let Some(steps) = subject.optimizer_steps() {
        steps.read(&mut sink)?;
    }
    Ok(values(&sink.into_tensors()))
}
