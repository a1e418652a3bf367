//! The backward pass: what an operator makes of the gradient that reaches it.

use crate::{
    Family, Fault,
    honest::Honest,
    names::{EMBEDDING, POSITIONS},
    tensors::Tensors,
    trainer::{Differentiated, Trainer},
};
use lossproof_subject::SubjectError;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const HONEST: Trainer = Trainer::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        id: "ce-upstream-grad-mean",
        family: Family::CrossEntropy,
        what: "the loss kernel takes the gradient that comes from above for one number, the mean of its elements",
        source: Some("linkedin/Liger-Kernel#1298, #968, #680; ROCm/TransformerEngine#336"),
        clauses: &["2.11"],
        trainer: Trainer { upstream: replaced_by_the_mean, ..HONEST },
    },
    Fault {
        id: "ce-upstream-grad-scalar",
        family: Family::CrossEntropy,
        what: "the loss kernel scales every row by the first element of the gradient that comes from above",
        source: Some("linkedin/Liger-Kernel#1298, #968, #680; microsoft/DirectML#740"),
        clauses: &["2.11"],
        trainer: Trainer {
            upstream: |weights| {
                let first = weights.first().copied().unwrap_or(0.0);
                weights.fill(first);
            },
            ..HONEST
        },
    },
    Fault {
        id: "tied-embedding-detached",
        family: Family::Backward,
        what: "the tied weight is updated from its use as the head alone",
        source: Some("torch/DEPRECEATED-torch7-distro#156"),
        clauses: &["6.3", "6.10"],
        trainer: Trainer {
            backward: |honest, of, gradient| {
                let inputs = inputs(honest, of)?;
                for (row, input) in &inputs {
                    add_row(gradient, *row, -1.0, input);
                }
                Ok(())
            },
            ..HONEST
        },
    },
    Fault {
        id: "tied-head-detached",
        family: Family::Backward,
        what: "the head is a copy of the embedding with a gradient of its own, which nobody adds",
        source: Some("paiml/entrenar#314"),
        clauses: &["1.5", "6.3", "6.10"],
        trainer: Trainer {
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
    },
    Fault {
        id: "padding-index-without-gradient",
        family: Family::Backward,
        what: "the embedding has the token 0 as its padding index, and the real token 0 gets no gradient",
        source: None,
        clauses: &["6.6", "6.10"],
        trainer: Trainer {
            backward: |honest, _, gradient| {
                let rows = honest.limits().vocabulary.max(1);
                let embedding = gradient.of_mut(EMBEDDING);
                let columns = embedding.len() / rows;
                embedding[..columns].fill(0.0);
                Ok(())
            },
            ..HONEST
        },
    },
    Fault {
        id: "position-rows-misaligned",
        family: Family::Backward,
        what: "the gradient of the position embedding lands one row too far",
        source: None,
        clauses: &["6.5", "6.10"],
        trainer: Trainer {
            backward: |honest, _, gradient| {
                let positions = gradient.of_mut(POSITIONS);
                let columns = positions.len() / honest.limits().positions.max(1);
                positions.rotate_right(columns);
                Ok(())
            },
            ..HONEST
        },
    },
    Fault {
        id: "param-init-not-leaf",
        family: Family::Backward,
        what: "initialisation leaves the position embedding as the result of an operation, which is never trained",
        source: Some("tracel-ai/burn#5235"),
        clauses: &["6.9", "6.10"],
        trainer: Trainer {
            backward: |_, _, gradient| {
                gradient.of_mut(POSITIONS).fill(0.0);
                Ok(())
            },
            ..HONEST
        },
    },
    Fault {
        id: "concat-gradient-misaligned",
        family: Family::Backward,
        what: "the backward of a concatenation forgets to advance: the keys' part gets the queries' gradient",
        source: Some("tracel-ai/burn#4069"),
        clauses: &["6.10"],
        trainer: Trainer {
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
    },
    Fault {
        id: "scatter-backward-wrong-axis",
        family: Family::Backward,
        what: "the backward of a square projection scatters along the other axis: its gradient is transposed",
        source: Some("tracel-ai/burn#3555, #2777"),
        clauses: &["6.10"],
        trainer: Trainer {
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
    },
    Fault {
        id: "backward-factor",
        family: Family::Backward,
        what: "a constant of a derivative is wrong in its third digit, and one tensor's gradient with it",
        source: None,
        clauses: &["6.10"],
        trainer: Trainer {
            backward: |_, _, gradient| {
                gradient.of_mut("h.0.mlp.c_fc.weight").iter_mut().for_each(|value| *value *= 1.005);
                Ok(())
            },
            ..HONEST
        },
    },
    Fault {
        id: "last-element-lost",
        family: Family::Backward,
        what: "a loop over a tensor ends one element early, and its last gradient stays zero",
        source: None,
        clauses: &["6.10"],
        trainer: Trainer {
            backward: |_, _, gradient| {
                gradient.of_mut("h.0.attn.c_proj.bias").iter_mut().rev().take(1).for_each(|last| *last = 0.0);
                Ok(())
            },
            ..HONEST
        },
    },
    Fault {
        id: "recompute-draws-new-dropout",
        family: Family::Backward,
        what: "activations are recomputed under another dropout mask, and the gradient is another every time",
        source: Some("allenai/OLMo-core#828, pytorch/pytorch#190758, openai/guided-diffusion#167"),
        clauses: &["6.8"],
        trainer: Trainer {
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
    },
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

fn add_row(gradient: &mut Tensors, row: usize, factor: f64, values: &[f64]) {
    let start = row * values.len();
    for (own, value) in gradient.of_mut(EMBEDDING)[start..].iter_mut().zip(values) {
        *own += factor * value;
    }
}
