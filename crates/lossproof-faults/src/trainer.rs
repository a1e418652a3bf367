//! A trainer, part by part. A fault replaces one part and leaves the others honest.

use crate::{
    honest::{Honest, PassResult, weights},
    model::InEachPrecision,
    rules::{self, TensorMoments, TensorUpdate},
    tensors::NamedTensors,
};
use lossproof_numerics::norm;
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Optimizer, Sequence};
use lossproof_subject::{Evaluated, Limits, ParameterInfo, SubjectError};

/// Gradients to update from.
pub(crate) type Updates = Result<Vec<NamedTensors>, SubjectError>;

/// The parts of a trainer, in the order in which a step goes through them.
#[derive(Clone, Copy)]
pub(crate) struct TrainerParts {
    /// What the data path makes of a sequence; as long as it was.
    pub(crate) sequence: fn(&Sequence, &Limits) -> Sequence,
    /// The loss spec that is computed when this one is declared.
    pub(crate) spec: fn(&LossSpec, &Limits) -> LossSpec,
    /// What the logits are multiplied with before the loss sees them; a power of two.
    pub(crate) logits: f64,
    /// Forward and backward over the ranks and micro-batches of a step.
    pub(crate) accumulate: fn(&mut Honest, &LossSpec, &GlobalBatch) -> Result<PassResult, SubjectError>,
    /// The operators of forward and backward; `None` leaves both to the honest subject.
    pub(crate) operators: Option<InEachPrecision>,
    /// The weights that the backward pass uses when these come from above.
    pub(crate) upstream: fn(&mut [f64]),
    /// What the backward operators make of the gradient.
    pub(crate) backward: fn(&mut Honest, &Differentiated<'_>, &mut NamedTensors) -> Result<(), SubjectError>,
    /// What a validation prints of the batches of a corpus.
    pub(crate) validate: fn(&mut Honest, &[MicroBatch]) -> Result<Evaluated, SubjectError>,
    /// The optimizer that runs when this one is declared.
    pub(crate) optimizer: fn(Optimizer) -> Optimizer,
    /// What a step takes for the gradient of its window.
    pub(crate) window: fn(&mut Honest, &StepWindow<'_>, PassResult) -> Result<PassResult, SubjectError>,
    /// Whether a step with this gradient, the loss scale still on it, is skipped.
    pub(crate) skips: fn(&Honest, &StepWindow<'_>, &NamedTensors) -> bool,
    /// Undoes the loss scale, measures and clips.
    pub(crate) clip: fn(&Optimizer, &[ParameterInfo], &mut NamedTensors) -> Clipped,
    /// The gradients that are updated from one after the other, each with an optimizer state of its own.
    pub(crate) updates: fn(&mut Honest, &StepWindow<'_>, NamedTensors, &Clipped) -> Updates,
    /// Whose optimizer state a parameter is updated with, both by their place among the parameters.
    pub(crate) state: fn(&[ParameterInfo], usize) -> usize,
    /// The learning rate of the step to come.
    pub(crate) learning_rate: fn(&Optimizer, StepCounts) -> f64,
    /// The update of one tensor.
    pub(crate) update: fn(&TensorUpdate<'_>, &mut [f64], &[f64], &mut TensorMoments),
}

/// A weighted sum of token losses whose gradient was taken.
pub(crate) struct Differentiated<'a> {
    pub(crate) spec: &'a LossSpec,
    pub(crate) batch: &'a GlobalBatch,
    /// The weights, where they came from above.
    pub(crate) upstream: Option<&'a [f64]>,
}

impl Differentiated<'_> {
    /// The weight of every prediction; `None` where a group without a supervised token leaves none.
    pub(crate) fn weights(&self) -> Option<Vec<f64>> {
        self.upstream.map_or_else(|| weights(self.spec, self.batch), |weights| Some(weights.to_vec()))
    }
}

/// What a step accumulates over.
pub(crate) struct StepWindow<'a> {
    pub(crate) spec: &'a LossSpec,
    pub(crate) batch: &'a GlobalBatch,
    pub(crate) optimizer: &'a Optimizer,
}

/// A gradient's measures.
#[derive(Clone, Debug)]
pub(crate) struct Clipped {
    /// Norm before clipping.
    pub(crate) grad_norm: f64,
    /// Norm of each parameter's gradient before clipping, in the order of the parameters.
    pub(crate) tensor_norms: Vec<f64>,
    /// What the gradient was multiplied with.
    pub(crate) factor: f64,
}

/// What was counted before the step to come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepCounts {
    /// Steps taken.
    pub(crate) steps: u32,
    /// Steps skipped.
    pub(crate) skipped: u32,
    /// Micro-batches of the longest rank, over all steps taken.
    pub(crate) micro_batches: u32,
    /// Tensors updated, over all steps taken.
    pub(crate) tensors: u32,
}

impl TrainerParts {
    /// Nothing is wrong with it.
    pub(crate) const HONEST: Self = Self {
        sequence: |sequence, _| sequence.clone(),
        spec: |spec, _| *spec,
        logits: 1.0,
        accumulate: |honest, spec, batch| honest.pass(spec, batch),
        operators: None,
        upstream: |_| (),
        backward: |_, _, _| Ok(()),
        validate: |honest, batches| honest.validate(batches),
        optimizer: |optimizer| optimizer,
        window: |_, _, pass| Ok(pass),
        skips: |_, _, gradient| gradient.values().any(|value| !value.is_finite()),
        clip,
        updates: |_, _, gradient, _| Ok(vec![gradient]),
        state: |_, parameter| parameter,
        learning_rate: |optimizer, counted| optimizer.learning_rate_at(counted.steps),
        update: rules::update,
    };
}

/// Undoes the loss scale, measures, and clips by the global norm.
pub(crate) fn clip(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut NamedTensors,
) -> Clipped {
    clip_by(optimizer, parameters, gradient, |measured| measured.grad_norm)
}

/// The same by another norm than the global one, which is made of what was measured.
pub(crate) fn clip_by(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut NamedTensors,
    norm: impl Fn(&Clipped) -> f64,
) -> Clipped {
    unscale(optimizer, gradient);
    let mut clipped = measure(parameters, gradient);
    clipped.grad_norm = norm(&clipped);
    clipped.factor = optimizer.clip.map_or(1.0, |clip| clip.factor(clipped.grad_norm));
    gradient.scale(clipped.factor);
    clipped
}

/// Undoes the loss scale: a division, since the inverse of a large power of two may not be a number.
pub(crate) fn unscale(optimizer: &Optimizer, gradient: &mut NamedTensors) {
    gradient.values_mut().for_each(|value| *value /= optimizer.loss_scale);
}

/// The norms of a gradient that is not clipped.
pub(crate) fn measure(parameters: &[ParameterInfo], gradient: &NamedTensors) -> Clipped {
    let of = |parameter: &ParameterInfo| norm(gradient.of(&parameter.name));
    let tensor_norms: Vec<f64> = parameters.iter().map(of).collect();
    Clipped { grad_norm: norm(&tensor_norms), tensor_norms, factor: 1.0 }
}
