//! Our loop along a recording: every quantity that was recorded, as our loop has it.

use super::file::{Recording, ScriptCheckpoint};
use crate::{Corpus, Event, Progress, Run, RunError, Sampler, Settings, decay::undecayed};
use lossproof_spec::Role;
use lossproof_subject::{
    Collect, LoopTrainer, ParameterInfo, SubjectError, Tensor, TensorSet, TrainerState, philox, state_of,
};
use std::collections::{BTreeMap, BTreeSet};

/// The key of the projections, beside their number: "proj".
const PROJECTION_KEY: u32 = 0x7072_6f6a;

/// Projections of each parameter.
pub(super) const PROJECTIONS: u32 = 3;

/// What our loop has done along a recording.
pub(super) struct Followed {
    pub(super) parameters: Vec<ParameterInfo>,
    pub(super) undecayed: BTreeSet<String>,
    /// Epoch and micro-batch that the run began with.
    pub(super) start: (u32, usize),
    pub(super) updates: Vec<FollowedUpdate>,
    pub(super) epochs: Vec<crate::Epoch>,
    pub(super) whole: BTreeMap<u64, TrainerState>,
}

/// One update of our loop.
pub(super) struct FollowedUpdate {
    pub(super) update: u64,
    pub(super) epoch: u32,
    pub(super) learning_rate: f64,
    /// Of each micro-batch, for each rank its loss.
    pub(super) losses: Vec<Vec<f64>>,
    pub(super) gradient_norms: Vec<f64>,
    pub(super) parameter_norms: Vec<f64>,
    /// Of each parameter.
    pub(super) projections: Vec<Vec<f64>>,
}

/// Follows a recording with a trainer in the order of a sampler.
pub(super) fn follow(
    trainer: &mut dyn LoopTrainer,
    recording: &Recording,
    corpus: &dyn Corpus,
    sampler: &dyn Sampler,
    settings: &Settings,
) -> Result<Followed, RunError> {
    trainer.load(&recording.initial)?;
    let parameters = trainer.parameters();
    let undecayed = undecayed(&parameters, settings.semantics.decay, &settings.rule);
    let mut run = Run::new(trainer, corpus, sampler, settings)?;
    if let Some(state) = &recording.resumed {
        run.trainer().restore(state)?;
        let updates = u64::from(state.updates);
        let from = recording.json.resumed.as_ref().map(|resumed| resumed.from);
        let place = Progress { updates, validated: updates, ..Progress::default() };
        run.resume(match from {
            Some(ScriptCheckpoint::Epoch) => {
                let epoch = u32::try_from(updates / run.plan().updates_per_epoch).unwrap_or(u32::MAX);
                Progress { epoch, ..place }
            }
            // The script works its place out of the number of updates: any place within an epoch says so.
            Some(ScriptCheckpoint::Step) | None => Progress { micro_batch: 1, ..place },
        });
    }
    let Progress { epoch, micro_batch, .. } = run.progress();
    let (mut updates, mut epochs, mut whole) = (Vec::new(), Vec::new(), BTreeMap::new());
    while let Some(event) = run.advance()? {
        match event {
            Event::Update(update) => {
                if recording.whole.contains_key(&update.update) {
                    whole.insert(update.update, state_of(run.trainer())?);
                }
                let now = read(run.trainer())?;
                let of = |info: &ParameterInfo| now.get(&info.name).map(Tensor::to_f64).unwrap_or_default();
                updates.push(FollowedUpdate {
                    update: update.update,
                    epoch: update.epoch,
                    learning_rate: update.learning_rate,
                    losses: update.micro_batches.iter().map(|one| one.losses.clone()).collect(),
                    gradient_norms: update.tensor_norms,
                    parameter_norms: parameters.iter().map(|info| norm(&of(info))).collect(),
                    projections: parameters.iter().map(|info| projections(&of(info))).collect(),
                });
            }
            Event::Validation { .. } => {}
            Event::Epoch(epoch) => epochs.push(epoch),
        }
    }
    Ok(Followed { parameters, undecayed, start: (epoch, micro_batch), updates, epochs, whole })
}

fn read(trainer: &mut dyn LoopTrainer) -> Result<TensorSet, SubjectError> {
    let mut parameters = Collect::default();
    trainer.read_parameters(&mut parameters)?;
    Ok(parameters.into_tensors())
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Sums of all values under signs that are fixed by a random number of each index.
fn projections(values: &[f64]) -> Vec<f64> {
    let sign = |index: u32, projection| {
        if philox([index, 0, 0, 0], [projection, PROJECTION_KEY])[0] & 1 == 1 { 1.0 } else { -1.0 }
    };
    let project = |projection| (0..).zip(values).map(|(index, value)| sign(index, projection) * value).sum();
    (0..PROJECTIONS).map(project).collect()
}

/// The elements of a parameter whose gradient is exactly zero in theory, and rounding alone in practice: the bias of
/// the keys moves all scores of a query alike. Adam divides that rounding by its own size.
pub(super) fn structural_zeros(info: &ParameterInfo) -> std::ops::Range<usize> {
    let elements: usize = info.shape.iter().product();
    match info.role {
        Role::QueryKeyValueBias => elements / 3..2 * elements / 3,
        Role::KeyBias => 0..elements,
        _ => 0..0,
    }
}
