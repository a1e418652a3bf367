//! The step: loss scale, clipping, schedule, update.

use crate::{
    Fault, fault,
    honest::{Honest, PassResult, weights},
    names::EMBEDDING,
    rules::{self, TensorMoments, TensorUpdate},
    tensors::NamedTensors,
    trainer::{self, Clipped, StepWindow, TrainerParts, Updates, measure, unscale},
};
use lossproof_numerics::norm;
use lossproof_spec::{Adam, Decayed, Optimizer, Rule};
use lossproof_subject::{ParameterInfo, SubjectError};

const HONEST: TrainerParts = TrainerParts::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    fault("clip-per-microbatch", TrainerParts { window: clipped_one_by_one, ..HONEST }),
    fault("clip-compares-squared-norm", TrainerParts { clip: squared_norm_compared, ..HONEST }),
    fault("clip-per-tensor", TrainerParts { clip: each_tensor_clipped, ..HONEST }),
    fault("clip-before-unscale", TrainerParts { clip: clipped_before_unscaled, ..HONEST }),
    fault(
        "grad-norm-after-clipping",
        TrainerParts {
            clip: |optimizer, parameters, gradient| {
                let clipped = trainer::clip(optimizer, parameters, gradient);
                Clipped { factor: clipped.factor, ..measure(parameters, gradient) }
            },
            ..HONEST
        },
    ),
    fault(
        "loss-scale-not-undone",
        TrainerParts {
            clip: |optimizer, parameters, gradient| {
                trainer::clip(&Optimizer { loss_scale: 1.0, ..*optimizer }, parameters, gradient)
            },
            ..HONEST
        },
    ),
    fault("overflow-not-skipped", TrainerParts { skips: |_, _, _| false, ..HONEST }),
    fault(
        "overflow-advances-schedule",
        TrainerParts {
            learning_rate: |optimizer, counted| optimizer.learning_rate_at(counted.steps + counted.skipped),
            ..HONEST
        },
    ),
    fault(
        "lr-schedule-per-microbatch",
        TrainerParts {
            learning_rate: |optimizer, counted| optimizer.learning_rate_at(counted.micro_batches),
            ..HONEST
        },
    ),
    fault("momentum-dampened-first", TrainerParts { update: dampened_first_step, ..HONEST }),
    fault("tied-weight-two-steps", TrainerParts { updates: head_then_embedding, ..HONEST }),
    fault(
        "weight-decay-grows",
        TrainerParts {
            optimizer: |optimizer| {
                let rule = match optimizer.rule {
                    Rule::Sgd { momentum, weight_decay } => {
                        Rule::Sgd { momentum, weight_decay: -weight_decay }
                    }
                    Rule::Adam(adam) => Rule::Adam(Adam { weight_decay: -adam.weight_decay, ..adam }),
                    Rule::AdamW(adam) => Rule::AdamW(Adam { weight_decay: -adam.weight_decay, ..adam }),
                };
                Optimizer { rule, ..optimizer }
            },
            ..HONEST
        },
    ),
    fault(
        "adam-step-starts-at-zero",
        TrainerParts {
            update: |update, values, gradient, moments| {
                rules::update(&adam_step(update, update.step - 1), values, gradient, moments);
            },
            ..HONEST
        },
    ),
    fault(
        "adam-without-bias-correction",
        TrainerParts {
            update: |update, values, gradient, moments| {
                rules::update(&adam_step(update, u32::MAX), values, gradient, moments);
            },
            ..HONEST
        },
    ),
    fault(
        "adam-epsilon-inside-root",
        TrainerParts {
            update: |update, values, gradient, moments| {
                rules::with_denominator(update, values, gradient, moments, |adam, second, correction| {
                    (second / correction + adam.epsilon).sqrt()
                });
            },
            ..HONEST
        },
    ),
    fault(
        "adamw-decay-coupled",
        TrainerParts {
            optimizer: |optimizer| match optimizer.rule {
                Rule::AdamW(adam) => Optimizer { rule: Rule::Adam(adam), ..optimizer },
                _ => optimizer,
            },
            ..HONEST
        },
    ),
    fault(
        "weight-decay-on-norms",
        TrainerParts {
            update: |update, values, gradient, moments| {
                let all = |adam| Adam { decayed: Decayed::All, ..adam };
                let rule = match update.rule {
                    Rule::Adam(adam) => Rule::Adam(all(adam)),
                    Rule::AdamW(adam) => Rule::AdamW(all(adam)),
                    sgd @ Rule::Sgd { .. } => sgd,
                };
                rules::update(&TensorUpdate { rule, ..*update }, values, gradient, moments);
            },
            ..HONEST
        },
    ),
];

fn clipped_one_by_one(
    honest: &mut Honest,
    window: &StepWindow<'_>,
    mut pass: PassResult,
) -> Result<PassResult, SubjectError> {
    let Some(clip) = window.optimizer.clip else { return Ok(pass) };
    if let Some(contributions) = honest.contributions(window.spec, window.batch)? {
        pass.gradient = NamedTensors::default();
        for gradient in contributions.iter().flatten().map(|contribution| &contribution.gradient) {
            pass.gradient.add(clip.factor(gradient.norm()), gradient);
        }
    }
    Ok(pass)
}

/// The gradient without the embedding's part of the tied weight, and then that part.
fn head_then_embedding(
    honest: &mut Honest,
    window: &StepWindow<'_>,
    mut gradient: NamedTensors,
    clipped: &Clipped,
) -> Updates {
    let Some(weights) = weights(window.spec, window.batch) else { return Ok(vec![gradient]) };
    let mut embedding = vec![0.0; gradient.of(EMBEDDING).len()];
    for (row, input) in honest.inputs(window.spec, window.batch, &weights)? {
        for (own, value) in embedding[row * input.len()..].iter_mut().zip(&input) {
            *own += clipped.factor * value;
        }
    }
    for (own, value) in gradient.of_mut(EMBEDDING).iter_mut().zip(&embedding) {
        *own -= value;
    }
    Ok(vec![gradient, NamedTensors::single(EMBEDDING, embedding)])
}

fn squared_norm_compared(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut NamedTensors,
) -> Clipped {
    unscale(optimizer, gradient);
    let mut clipped = measure(parameters, gradient);
    if let Some(clip) = optimizer.clip.filter(|clip| clipped.grad_norm.powi(2) > clip.max_norm) {
        clipped.factor = clip.max_norm / (clipped.grad_norm + clip.epsilon);
        gradient.scale(clipped.factor);
    }
    clipped
}

fn each_tensor_clipped(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut NamedTensors,
) -> Clipped {
    unscale(optimizer, gradient);
    let mut clipped = measure(parameters, gradient);
    if let Some(clip) = optimizer.clip {
        clipped.factor = clip.factor(clipped.grad_norm);
        for (_, values) in gradient.iter_mut() {
            let factor = clip.factor(norm(&*values));
            for value in values {
                *value *= factor;
            }
        }
    }
    clipped
}

fn clipped_before_unscaled(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut NamedTensors,
) -> Clipped {
    let clipped = trainer::clip(&Optimizer { loss_scale: 1.0, ..*optimizer }, parameters, gradient);
    unscale(optimizer, gradient);
    clipped
}

fn dampened_first_step(
    update: &TensorUpdate<'_>,
    values: &mut [f64],
    gradient: &[f64],
    moments: &mut TensorMoments,
) {
    let dampening = match update.rule {
        Rule::Sgd { momentum, .. } if update.step == 1 => 1.0 - momentum,
        _ => 1.0,
    };
    let gradient: Vec<f64> = gradient.iter().map(|value| dampening * value).collect();
    rules::update(update, values, &gradient, moments);
}

/// The update as Adam's step number `step`; SGD's is as it was.
pub(crate) fn adam_step<'a>(update: &TensorUpdate<'a>, step: u32) -> TensorUpdate<'a> {
    let step = if matches!(update.rule, Rule::Sgd { .. }) { update.step } else { step };
    TensorUpdate { step, ..*update }
}
