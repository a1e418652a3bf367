//! The backward pass: what an operator makes of the gradient that reaches it.

use crate::{
    Fault, fault,
    honest::Honest,
    names::{EMBEDDING, POSITIONS},
    tensors::NamedTensors,
    trainer::{Differentiated, TrainerParts},
};
use lossproof_subject::SubjectError;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

const HONEST: TrainerParts = TrainerParts::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    fault("ce-upstream-grad-mean", TrainerParts { upstream: replaced_by_the_mean, ..HONEST }),
    fault(
        "ce-upstream-grad-scalar",
        TrainerParts {
            upstream: |weights| {
                let first = weights.first().copied().unwrap_or(0.0);
                weights.fill(first);
            },
            ..HONEST
        },
    ),
    fault(
        "tied-embedding-detached",
        TrainerParts {
            backward: |honest, of, gradient| {
                let inputs = inputs(honest, of)?;
                for (row, input) in &inputs {
                    add_row(gradient, *row, -1.0, input);
                }
                Ok(())
            },
            ..HONEST
        },
    ),
    fault(
        "tied-head-detached",
        TrainerParts {
            backward: |honest, of, gradient| {
                let inputs = inputs(honest, of)?;
                gradient.of_mut(EMBEDDING).fill(0.0);
                for (row, input) in &inputs {
                    add_row(gradient, *row, 1.0, input);
                }
                Ok(())
            },
            ..HONEST
        },
    ),
    fault(
        "padding-index-without-gradient",
        TrainerParts {
            backward: |honest, _, gradient| {
                let rows = honest.limits().vocabulary.max(1);
                let embedding = gradient.of_mut(EMBEDDING);
                let columns = embedding.len() / rows;
                embedding[..columns].fill(0.0);
                Ok(())
            },
            ..HONEST
        },
    ),
    fault(
        "position-rows-misaligned",
        TrainerParts {
            backward: |honest, _, gradient| {
                let positions = gradient.of_mut(POSITIONS);
                let columns = positions.len() / honest.limits().positions.max(1);
                positions.rotate_right(columns);
                Ok(())
            },
            ..HONEST
        },
    ),
    fault(
        "param-init-not-leaf",
        TrainerParts {
            backward: |_, _, gradient| {
                gradient.of_mut(POSITIONS).fill(0.0);
                Ok(())
            },
            ..HONEST
        },
    ),
    fault(
        "concat-gradient-misaligned",
        TrainerParts {
            backward: |_, _, gradient| {
                let width = gradient.of("ln_f.bias").len();
                for (_, values) in gradient.iter_mut().filter(|(name, _)| name.contains("attn.c_attn")) {
                    // The bias is one row of queries, keys and values, and the weight one for each input.
                    for row in values.chunks_exact_mut((3 * width).max(1)) {
                        row.copy_within(..width, width);
                    }
                }
                Ok(())
            },
            ..HONEST
        },
    ),
    fault(
        "scatter-backward-wrong-axis",
        TrainerParts {
            backward: |_, _, gradient| {
                for (_, values) in
                    gradient.iter_mut().filter(|(name, _)| name.ends_with("attn.c_proj.weight"))
                {
                    let side = values.len().isqrt();
                    for row in 0..side {
                        for column in 0..row {
                            values.swap(row * side + column, column * side + row);
                        }
                    }
                }
                Ok(())
            },
            ..HONEST
        },
    ),
    fault(
        "backward-factor",
        TrainerParts {
            backward: |_, _, gradient| {
                gradient.of_mut("h.0.mlp.c_fc.weight").iter_mut().for_each(|value| *value *= 1.005);
                Ok(())
            },
            ..HONEST
        },
    ),
    fault(
        "last-element-lost",
        TrainerParts {
            backward: |_, _, gradient| {
                gradient.of_mut("h.0.attn.c_proj.bias").iter_mut().rev().take(1).for_each(|last| *last = 0.0);
                Ok(())
            },
            ..HONEST
        },
    ),
    fault(
        "recompute-draws-new-dropout",
        TrainerParts {
            backward: |honest, _, gradient| {
                let mut random = ChaCha8Rng::seed_from_u64(honest.memory.passes);
                for value in gradient.values_mut() {
                    // Inverted dropout with a rate of a tenth.
                    *value *= if random.random_bool(0.9) { 1.0 / 0.9 } else { 0.0 };
                }
                Ok(())
            },
            ..HONEST
        },
    ),
];

fn replaced_by_the_mean(weights: &mut [f64]) {
    let mean = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
    weights.fill(mean);
}

/// The gradient of every embedded input, by the row of the embedding it belongs to.
fn inputs(honest: &mut Honest, of: &Differentiated<'_>) -> Result<Vec<(usize, Vec<f64>)>, SubjectError> {
    let Some(weights) = of.weights() else { return Ok(Vec::new()) };
    honest.inputs(of.spec, of.batch, &weights)
}

fn add_row(gradient: &mut NamedTensors, row: usize, factor: f64, values: &[f64]) {
    let start = row * values.len();
    for (own, value) in gradient.of_mut(EMBEDDING)[start..].iter_mut().zip(values) {
        *own += factor * value;
    }
}
