//! What looks like a bug and is none: legitimate variants, which every law must pass.

use crate::{
    faulty::Faulty,
    honest::{Honest, PassResult, weights},
    operators,
    rules::{self, TensorMoments, TensorUpdate},
    trainer::TrainerParts,
};
use lossproof_spec::{EpsilonPlacement, GlobalBatch, LossSpec};
use lossproof_subject::{Subject, SubjectError};
use std::fmt;

const HONEST: TrainerParts = TrainerParts::HONEST;

/// A variant of a trainer that is not wrong.
#[derive(Clone, Copy)]
pub struct Control {
    /// Names it.
    pub id: &'static str,
    /// What is different.
    pub what: &'static str,
    /// Where it was taken for a bug, or disputed.
    pub source: Option<&'static str>,
    trainer: TrainerParts,
}

const CONTROLS: &[Control] = &[
    Control {
        id: "divided-once-at-the-end",
        what: "the sum is differentiated, and its gradient divided by the normaliser once, after the last micro-batch",
        source: Some("huggingface/transformers#34191"),
        trainer: TrainerParts { accumulate: divided_at_the_end, ..HONEST },
    },
    Control {
        id: "factor-before-all-reduce",
        what: "each rank multiplies its gradient by the number of ranks, and the all-reduce averages",
        source: Some("NVIDIA/Megatron-LM#673"),
        trainer: TrainerParts {
            accumulate: |honest, spec, batch| {
                recombined(honest, spec, batch, |ranks| {
                    let world = ranks.len() as f64;
                    let rank = |passes: Vec<PassResult>| PassResult::sum(&passes).scaled(world);
                    let scaled: Vec<PassResult> = ranks.into_iter().map(rank).collect();
                    PassResult::sum(&scaled).scaled(1.0 / world)
                })
            },
            ..HONEST
        },
    },
    Control {
        id: "factor-after-all-reduce",
        what: "the all-reduce averages, and its result is multiplied by the number of ranks",
        source: Some("NVIDIA/Megatron-LM#673"),
        trainer: TrainerParts {
            accumulate: |honest, spec, batch| {
                recombined(honest, spec, batch, |ranks| {
                    let world = ranks.len() as f64;
                    let rank = |passes: Vec<PassResult>| PassResult::sum(&passes).scaled(1.0 / world);
                    let averaged: Vec<PassResult> = ranks.into_iter().map(rank).collect();
                    PassResult::sum(&averaged).scaled(world)
                })
            },
            ..HONEST
        },
    },
    Control {
        id: "micro-batches-in-reverse",
        what: "the last rank and the last micro-batch come first",
        source: None,
        trainer: TrainerParts {
            accumulate: |honest, spec, batch| {
                recombined(honest, spec, batch, |ranks| {
                    let passes: Vec<PassResult> = ranks.into_iter().flatten().collect();
                    PassResult::sum(passes.iter().rev())
                })
            },
            ..HONEST
        },
    },
    Control {
        id: "mean-of-nothing-is-nan",
        what: "where the empty policy declares NaN, the gradient is NaN as the loss is",
        source: Some("pytorch/pytorch#70348, #116349"),
        trainer: TrainerParts {
            accumulate: |honest, spec, batch| {
                let mut pass = honest.pass(spec, batch)?;
                if pass.observation.loss.is_nan() {
                    pass.gradient.values_mut().for_each(|value| *value = f64::NAN);
                }
                Ok(pass)
            },
            ..HONEST
        },
    },
    Control {
        id: "adam-epsilon-hat",
        what: "Adam adds ε̂ to the root of a second moment that is not corrected, with ε̂ = ε·√(1 − β₂^k) where ε was declared",
        source: Some("tensorflow/tensorflow#35102, #9047; karpathy/nanochat#304"),
        trainer: TrainerParts { update: epsilon_hat, ..HONEST },
    },
    Control {
        id: "operators-written-out",
        what: "forward and backward are those of the model that operators are broken in, with none of them broken",
        source: None,
        trainer: operators::UNBROKEN,
    },
];

impl Control {
    /// Every control.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        CONTROLS.iter()
    }

    /// The control with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|control| control.id == id)
    }

    /// An honest subject in this variant. It has the capabilities of the honest one; what it needs of that is
    /// as with [`Fault::inject`](crate::Fault::inject).
    #[must_use]
    pub fn inject(&self, honest: Box<dyn Subject>) -> Box<dyn Subject> {
        Box::new(Faulty::new(honest, self.trainer))
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("id", &self.id).field("what", &self.what).finish_non_exhaustive()
    }
}

/// Where all tokens weigh the same, the sum and one factor.
fn divided_at_the_end(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let pass = honest.pass(spec, batch)?;
    let weights = weights(spec, batch).unwrap_or_default();
    let mut weights = weights.into_iter().filter(|&weight| weight > 0.0);
    let Some(factor) = weights.next() else { return Ok(pass) };
    if weights.any(|weight| weight.to_bits() != factor.to_bits()) {
        return Ok(pass);
    }
    let LossSpec { label_smoothing, z_loss, .. } = *spec;
    let sum = honest.pass(&LossSpec { label_smoothing, z_loss, ..LossSpec::sum() }, batch)?;
    Ok(replaced(pass, sum.scaled(factor)))
}

/// The pass with what the contributions of ranks and micro-batches are combined to. The mean of nothing is
/// the honest pass's.
fn recombined(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
    combine: impl Fn(Vec<Vec<PassResult>>) -> PassResult,
) -> Result<PassResult, SubjectError> {
    let pass = honest.pass(spec, batch)?;
    let contributions = honest.contributions(spec, batch)?;
    Ok(match contributions {
        Some(contributions) => replaced(pass, combine(contributions)),
        None => pass,
    })
}

/// A pass with another's loss and gradient.
fn replaced(mut pass: PassResult, other: PassResult) -> PassResult {
    pass.observation.loss = other.observation.loss;
    pass.gradient = other.gradient;
    pass
}

fn epsilon_hat(update: &TensorUpdate<'_>, values: &mut [f64], gradient: &[f64], moments: &mut TensorMoments) {
    rules::with_denominator(update, values, gradient, moments, |adam, second, correction| {
        let hat = match adam.epsilon_placement {
            EpsilonPlacement::AfterCorrection => adam.epsilon * correction.sqrt(),
            EpsilonPlacement::BeforeCorrection => adam.epsilon,
        };
        (second.sqrt() + hat) / correction.sqrt()
    });
}
