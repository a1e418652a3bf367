//! Models that are consistent with themselves and are not the one that they claim to be.

use super::{
    HeldTo::{ItsOwnKind, Verification},
    Hostile,
    Outcome::{NotCovered, Red},
    hooked, hostile, trainer,
};
use crate::{
    kit::{Capability, HandedOver, Hooks, NamedTensor},
    model::{
        Operators, Real, in_each_precision,
        operators::{EPSILON, dot, gain_and_bias, means},
        real,
    },
    trainer::TrainerParts,
};
use lossproof_subject::{Subject, Tensor, TensorSet, TensorValues};

pub(super) const SUBJECTS: &[Hostile] = &[
    hostile(
        "attention-scale-wrong",
        "scores are divided by the size of a head instead of its root, forward and backward",
        Red,
        |honest| reparametrised(honest, scale_queries),
    )
    .held_to(Verification),
    hostile(
        "epsilon-outside-the-root",
        "every layer norm divides by σ + ε instead of √(σ² + ε), forward and backward",
        Red,
        |honest| {
            let operators = Some(in_each_precision!(epsilon_outside_the_root));
            trainer(honest, TrainerParts { operators, ..TrainerParts::HONEST })
        },
    )
    .held_to(Verification),
    hostile(
        "weight-transposed",
        "attention's output weight is used transposed, forward and backward",
        Red,
        |honest| reparametrised(honest, transpose),
    )
    .held_to(Verification),
    hostile(
        "weight-transposed-beside-itself",
        "the same, verified against another of its own kind",
        NotCovered,
        |honest| reparametrised(honest, transpose),
    )
    .held_to(ItsOwnKind),
    hostile(
        "wrong-tensor-beside-itself",
        "one gradient is a hundredth too large, verified against another of its own kind",
        Red,
        |honest| {
            let hooks = Hooks {
                gradient: |(), _, handed| handed.tensor("h.0.mlp.c_fc.weight").scale(1.01),
                ..Hooks::IDENTITY
            };
            hooked(honest, hooks)
        },
    )
    .held_to(ItsOwnKind),
];

fn epsilon_outside_the_root<T: Real>() -> Operators<T> {
    Operators {
        inverse_deviation: |variance| (variance.sqrt() + real(EPSILON)).recip(),
        layer_norm_backward: |row, gradient, sums| {
            gain_and_bias(row, gradient, sums);
            let (mean, along) = means(row, gradient);
            let columns = real::<T>(row.values.len() as f64);
            let root = (dot(row.values, row.values) / columns).sqrt();
            for (g, &normed) in gradient.iter_mut().zip(row.values) {
                *g = (*g - mean - normed * along / root) * row.inverse_deviation;
            }
        },
        ..Operators::honest()
    }
}

/// What a parameter is turned into before the model uses it, and so its gradient on the way back: a map that
/// is its own transpose.
type Reparametrisation = fn(&mut NamedTensor);

/// A subject that computes with other parameters than those it is given. It takes no steps, which would show
/// them.
fn reparametrised(honest: Box<dyn Subject>, map: Reparametrisation) -> Box<dyn Subject> {
    let hooks = Hooks {
        gradient: |map: &mut Reparametrisation, _, handed: &mut HandedOver| {
            handed.tensors.iter_mut().for_each(*map);
        },
        offers: |_, capability, inside| inside && capability != Capability::OptimizerSteps,
        load: |map, inner, parameters| {
            let mut mapped = TensorSet::new();
            for (name, tensor) in parameters {
                let (shape, values) = (tensor.shape().to_vec(), tensor.to_f64());
                let values = TensorValues::F64(through(*map, name, shape.clone(), values));
                let tensor = Tensor::new(shape, values).expect("invariant: as many values as before");
                mapped.insert(name.clone(), tensor);
            }
            (Hooks::IDENTITY.load)(&mut (), inner, &mapped)
        },
        set: |map, inner, name, values| {
            let shape = inner.parameters().into_iter().find(|parameter| parameter.name == name);
            let shape = shape.map_or_else(Vec::new, |parameter| parameter.shape);
            let values = through(*map, name, shape, values.to_vec());
            (Hooks::IDENTITY.set)(&mut (), inner, name, &values)
        },
        ..Hooks::IDENTITY
    };
    crate::kit::wrap(honest, map, hooks)
}

fn through(map: Reparametrisation, name: &str, shape: Vec<usize>, values: Vec<f64>) -> Vec<f64> {
    let dtype = lossproof_spec::Dtype::F64;
    let mut tensor = NamedTensor { name: name.to_owned(), shape, values, dtype };
    map(&mut tensor);
    tensor.values
}

/// Queries are divided by the root of the size of a head once more. Queries are the first third of the fused
/// columns; the head of gpt2-pico has four.
fn scale_queries(tensor: &mut NamedTensor) {
    if !tensor.name.contains("attn.c_attn") {
        return;
    }
    let columns = tensor.shape.last().copied().unwrap_or(1);
    for (index, value) in tensor.values.iter_mut().enumerate() {
        if index % columns < columns / 3 {
            *value /= 2.0;
        }
    }
}

fn transpose(tensor: &mut NamedTensor) {
    if tensor.name != "h.0.attn.c_proj.weight" {
        return;
    }
    let side = tensor.values.len().isqrt();
    for row in 0..side {
        for column in 0..row {
            tensor.values.swap(row * side + column, column * side + row);
        }
    }
}
