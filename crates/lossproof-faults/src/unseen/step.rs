//! Clipping and update.

use super::Unseen;
use crate::{
    names::EMBEDDING,
    rules::{self, TensorMoments, TensorUpdate},
    step::adam_step,
    tensors::NamedTensors,
    trainer::{Clipped, StepCounts, TrainerParts, clip_by, measure, unscale},
};
use lossproof_numerics::norm;
use lossproof_spec::{Adam, Optimizer, Rule};
use lossproof_subject::ParameterInfo;

const HONEST: TrainerParts = TrainerParts::HONEST;

pub(super) const BUGS: &[Unseen] = &[
    Unseen {
        id: "norm-counts-replicated-twice",
        what: "the squared norms of both shards are added, those of tensors that each shard has whole too",
        source: Some("https://github.com/NVIDIA-NeMo/RL/pull/3788"),
        trainer: TrainerParts { clip: replicated_tensors_twice, ..HONEST },
    },
    Unseen {
        id: "adamw-decays-what-was-updated",
        what: "AdamW takes its decay from the parameter that the update has moved already",
        source: Some("https://github.com/huggingface/transformers/issues/14539"),
        trainer: TrainerParts { update: decayed_afterwards, ..HONEST },
    },
    Unseen {
        id: "velocity-holds-the-rate",
        what: "the learning rate is multiplied into the velocity, which keeps the rates of former steps",
        source: Some("https://github.com/paiml/aprender/pull/2190"),
        trainer: TrainerParts { update: rate_in_the_velocity, ..HONEST },
    },
    Unseen {
        id: "clipped-by-value",
        what: "every element is clamped to the largest norm, where the norm was to be",
        source: None,
        trainer: TrainerParts { clip: each_element_clamped, ..HONEST },
    },
    Unseen {
        id: "clip-by-largest-element",
        what: "the gradient is clipped by its largest element where the norm over all of them was due",
        source: None,
        trainer: TrainerParts { clip: largest_element_compared, ..HONEST },
    },
    Unseen {
        id: "warm-up-from-zero",
        what: "the warm-up begins at a learning rate of zero, and the first step changes nothing",
        source: None,
        trainer: TrainerParts { learning_rate: rising_from_zero, ..HONEST },
    },
    Unseen {
        id: "final-norm-in-no-group",
        what: "no parameter group has the last layer norm, and it keeps its initial values",
        source: None,
        trainer: TrainerParts {
            update: |update, values, gradient, moments| {
                if !update.name.starts_with("ln_f") {
                    rules::update(update, values, gradient, moments);
                }
            },
            ..HONEST
        },
    },
    Unseen {
        id: "embedding-in-no-group",
        what: "no parameter group has the token embedding, and it keeps its initial values",
        source: None,
        trainer: TrainerParts {
            update: |update, values, gradient, moments| {
                if update.name != EMBEDDING {
                    rules::update(update, values, gradient, moments);
                }
            },
            ..HONEST
        },
    },
    Unseen {
        id: "moments-by-shape",
        what: "optimizer state is looked up by shape, and parameters of one shape share it",
        source: None,
        trainer: TrainerParts {
            state: |parameters, own| {
                let same = |other: &ParameterInfo| other.shape == parameters[own].shape;
                parameters.iter().position(same).unwrap_or(own)
            },
            ..HONEST
        },
    },
    Unseen {
        id: "adam-step-per-tensor",
        what: "the step number of Adam's bias correction is counted up for each tensor",
        source: None,
        trainer: TrainerParts {
            update: |update, values, gradient, moments| {
                rules::update(&adam_step(update, update.tensors + 1), values, gradient, moments);
            },
            ..HONEST
        },
    },
    Unseen {
        id: "betas-swapped",
        what: "Adam is given its two betas in the wrong order",
        source: None,
        trainer: TrainerParts { optimizer: betas_swapped, ..HONEST },
    },
    Unseen {
        id: "decay-without-rate",
        what: "AdamW does not multiply its decay by the learning rate",
        source: None,
        trainer: TrainerParts { update: decayed_whatever_the_rate, ..HONEST },
    },
];

/// Vectors are replicated over two shards, and matrices are split.
fn replicated_tensors_twice(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut NamedTensors,
) -> Clipped {
    clip_by(optimizer, parameters, gradient, |measured| {
        let mut counted = measured.tensor_norms.clone();
        for (parameter, own) in parameters.iter().zip(&measured.tensor_norms) {
            if parameter.shape.len() == 1 {
                counted.push(*own);
            }
        }
        norm(&counted)
    })
}

fn decayed_afterwards(
    update: &TensorUpdate<'_>,
    values: &mut [f64],
    gradient: &[f64],
    moments: &mut TensorMoments,
) {
    let Rule::AdamW(adam) = update.rule else {
        return rules::update(update, values, gradient, moments);
    };
    let rule = Rule::AdamW(Adam { weight_decay: 0.0, ..adam });
    rules::update(&TensorUpdate { rule, ..*update }, values, gradient, moments);
    if adam.decayed.includes(update.shape) {
        for value in values {
            *value -= update.learning_rate * adam.weight_decay * *value;
        }
    }
}

fn decayed_whatever_the_rate(
    update: &TensorUpdate<'_>,
    values: &mut [f64],
    gradient: &[f64],
    moments: &mut TensorMoments,
) {
    let Rule::AdamW(adam) = update.rule else {
        return rules::update(update, values, gradient, moments);
    };
    if adam.decayed.includes(update.shape) {
        for value in &mut *values {
            *value -= adam.weight_decay * *value;
        }
    }
    let rule = Rule::AdamW(Adam { weight_decay: 0.0, ..adam });
    rules::update(&TensorUpdate { rule, ..*update }, values, gradient, moments);
}

fn rate_in_the_velocity(
    update: &TensorUpdate<'_>,
    values: &mut [f64],
    gradient: &[f64],
    moments: &mut TensorMoments,
) {
    let Rule::Sgd { momentum, weight_decay } = update.rule else {
        return rules::update(update, values, gradient, moments);
    };
    moments.first.resize(values.len(), 0.0);
    for ((value, g), velocity) in values.iter_mut().zip(gradient).zip(&mut moments.first) {
        *velocity = momentum * *velocity + update.learning_rate * (g + weight_decay * *value);
        *value -= *velocity;
    }
}

fn each_element_clamped(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut NamedTensors,
) -> Clipped {
    unscale(optimizer, gradient);
    let mut clipped = measure(parameters, gradient);
    if let Some(clip) = optimizer.clip {
        clipped.factor = clip.factor(clipped.grad_norm);
        gradient.values_mut().for_each(|value| *value = value.clamp(-clip.max_norm, clip.max_norm));
    }
    clipped
}

fn largest_element_compared(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut NamedTensors,
) -> Clipped {
    unscale(optimizer, gradient);
    let mut clipped = measure(parameters, gradient);
    if let Some(clip) = optimizer.clip {
        let largest = gradient.values().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        clipped.factor = clip.factor(largest);
        gradient.scale(clipped.factor);
    }
    clipped
}

fn rising_from_zero(optimizer: &Optimizer, counted: StepCounts) -> f64 {
    if optimizer.warm_up <= 1 {
        return optimizer.learning_rate_at(counted.steps);
    }
    optimizer.learning_rate * (f64::from(counted.steps) / f64::from(optimizer.warm_up)).min(1.0)
}

fn betas_swapped(optimizer: Optimizer) -> Optimizer {
    let swapped = |adam: Adam| Adam { beta_1: adam.beta_2, beta_2: adam.beta_1, ..adam };
    let rule = match optimizer.rule {
        Rule::Adam(adam) => Rule::Adam(swapped(adam)),
        Rule::AdamW(adam) => Rule::AdamW(swapped(adam)),
        sgd @ Rule::Sgd { .. } => sgd,
    };
    Optimizer { rule, ..optimizer }
}
