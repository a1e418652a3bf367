//! Clipping and update.

use super::Unseen;
use crate::{
    rules::{self, TensorMoments, TensorUpdate},
    tensors::NamedTensors,
    trainer::{Clipped, TrainerParts, clip_by},
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
