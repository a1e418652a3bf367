//! One update of a run, and what it divided each loss by, read off the parameters before and after it.
//!
//! Under plain SGD at rate 1 the change of the parameters is the gradient `G`. At the same parameters the gradients
//! `S_p` of the sums of each backward pass's token losses are computed one by one, and `G = Σ_p w_p·S_p` is solved by
//! least squares: `1/w_p` is what a loss of pass `p` was divided by.

use super::{division::Pass, stage};
use lossproof_gpt2::Config;
use lossproof_loop::{Corpus, Event, Progress, Run, Schedule, SeededSampler, Settings, Update};
use lossproof_numerics::{Equations, Perturbation};
use lossproof_spec::{LossSpec, Rule};
use lossproof_subject::{
    Collect, Dropout, LoopTrainer, SamplePlace, SubjectError, TensorSet, TrainingBatch, gradient_of,
};
use miette::IntoDiagnostic;
use std::collections::BTreeSet;

/// Relative rounding that the columns and the right side of the least squares are taken to have.
const ROUNDING: f64 = 1e-12;

/// SGD without anything beside it.
const PLAIN_SGD: Rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };

/// What one update did.
pub(super) struct Window {
    /// Its backward passes, micro-batch by micro-batch and rank by rank.
    pub(super) passes: Vec<Pass>,
    /// Norm of its gradient.
    pub(super) grad_norm: f64,
    /// The share of the gradient that weights of whole passes do not explain.
    pub(super) unexplained: f64,
}

/// The update that begins with this micro-batch of the first epoch, at the initial parameters.
///
/// # Errors
/// When there is no such update, or the trainer fails.
pub(super) fn measure(
    config: Config,
    corpus: &dyn Corpus,
    settings: &Settings,
    micro_batch: usize,
) -> miette::Result<Window> {
    let settings = Settings {
        rule: PLAIN_SGD,
        learning_rate: 1.0,
        schedule: Schedule::Constant,
        warm_up: 0,
        ..*settings
    };
    let sampler = SeededSampler::new(corpus.training_samples(), &settings);
    let mut trainer = stage::trainer(config)?;
    let mut run = Run::new(&mut *trainer, corpus, &sampler, &settings).into_diagnostic()?;
    let updates = u64::try_from(micro_batch / settings.accumulate).into_diagnostic()?;
    run.resume(Progress { micro_batch, updates, ..Progress::default() });
    let before = parameters(run.trainer()).into_diagnostic()?;
    let Some(Event::Update(update)) = run.advance().into_diagnostic()? else {
        miette::bail!("the epoch has no micro-batch {micro_batch}");
    };
    let after = parameters(run.trainer()).into_diagnostic()?;
    let gradient: Vec<f64> = before.iter().zip(&after).map(|(before, after)| before - after).collect();

    let batches = batches(corpus, &update)?;
    let mut fresh = stage::trainer(config)?;
    fresh.begin(&PLAIN_SGD, &BTreeSet::new(), &BTreeSet::new()).into_diagnostic()?;
    let mut sums = Vec::new();
    for batch in &batches {
        sums.push(sum_gradient(&mut *fresh, batch).into_diagnostic()?);
    }
    let equations = Equations::new(&sums, &gradient).into_diagnostic()?;
    let norm = equations.right_norm();
    let columns: Vec<f64> = (0..sums.len()).map(|pass| ROUNDING * equations.column_norm(pass)).collect();
    let perturbation = Perturbation { columns: &columns, right: ROUNDING * norm };
    let solution = equations.solve(&perturbation).into_diagnostic()?;
    if !solution.groups.is_empty() {
        miette::bail!("two backward passes of the window have the same gradient");
    }
    let mut passes = Vec::new();
    for (batch, weight) in batches.iter().zip(&solution.values) {
        passes.push(Pass { losses: batch.supervised(), divided_by: 1.0 / weight });
    }
    Ok(Window { passes, grad_norm: update.grad_norm, unexplained: solution.residual / norm })
}

/// The batch of each backward pass of an update.
fn batches(corpus: &dyn Corpus, update: &Update) -> miette::Result<Vec<TrainingBatch>> {
    let mut batches = Vec::new();
    for rank in update.micro_batches.iter().flat_map(|micro_batch| &micro_batch.samples) {
        if rank.is_empty() {
            continue;
        }
        // Without dropout and masks nothing depends on the place.
        let place = SamplePlace { epoch: update.epoch, sample: 0 };
        let samples: Vec<_> = rank
            .iter()
            .map(|&index| corpus.training(index, place))
            .collect::<Result<_, _>>()
            .into_diagnostic()?;
        batches.push(TrainingBatch::new(samples).into_diagnostic()?);
    }
    Ok(batches)
}

/// The gradient of the sum of a batch's token losses, as one vector.
fn sum_gradient(trainer: &mut dyn LoopTrainer, batch: &TrainingBatch) -> Result<Vec<f64>, SubjectError> {
    trainer.zero_gradient()?;
    trainer.backward(batch, &LossSpec::sum(), 1.0, &Dropout::NONE)?;
    Ok(flat(&gradient_of(trainer)?))
}

/// The parameters as one vector.
fn parameters(trainer: &mut dyn LoopTrainer) -> Result<Vec<f64>, SubjectError> {
    let mut parameters = Collect::default();
    trainer.read_parameters(&mut parameters)?;
    Ok(flat(&parameters.into_tensors()))
}

/// Tensors one after the other, in the order of their names.
fn flat(tensors: &TensorSet) -> Vec<f64> {
    tensors.values().flat_map(lossproof_subject::Tensor::to_f64).collect()
}
