//! Backward operators: what they make of a gradient that reaches them.

use super::{Hypothesis, hypothesis};
use crate::{
    beside::Beside,
    model::{Fit, Operators},
};
use lossproof_laws::names::{BIAS, EMBEDDING, GAIN, POSITIONS};
use lossproof_spec::{MicroBatch, Sequence};

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis!(
        "index-backward-overwrites",
        "the embedding's backward stores where it should add: a repeated token keeps one of its gradients",
        Some("pytorch/pytorch#1631, ooples/AiDotNet.Tensors#894"),
        "scatter with addition: dW[id] += dOut for every occurrence",
        { operators: Operators::Pattern(|beside| match beside.name {
            POSITIONS => rows(beside, repeated_position),
            _ => embedding_alone(beside, repeated),
        }) }
    ),
    hypothesis!(
        "tied-embedding-detached",
        "the tied weight has its gradient from its use as the head alone",
        Some("torch/DEPRECATED-torch7-distro#156"),
        "add the embedding's part to the gradient of the tied weight",
        { operators: Operators::Pattern(|beside| {
            // Not the repeated tokens alone.
            let fit = embedding_alone(beside, |beside, row| occurrences(beside, row) > 0);
            if embedding_alone(beside, repeated) == Fit::Loosely { Fit::Poorly } else { fit }
        }) }
    ),
    hypothesis!(
        "tied-head-detached",
        "the head is a copy of the embedding with a gradient of its own, which nobody adds",
        Some("paiml/entrenar#314"),
        "add the head's part to the gradient of the tied weight: one storage, one gradient",
        { operators: Operators::Pattern(|beside| {
            // What is left is the embedding's part: nothing for tokens that are no input.
            let rest = |(row, (_, measured)): (usize, (&[f64], &[f64]))| {
                occurrences(beside, row) > 0 || zero(measured)
            };
            match beside.name {
                EMBEDDING if !beside.rows().enumerate().all(rest) => Fit::Not,
                EMBEDDING => beside.differs(),
                _ => beside.right(),
            }
        }) }
    ),
    hypothesis!(
        "padding-index-without-gradient",
        "the embedding has token 0 as its padding index, and the real token 0 gets no gradient",
        None,
        "set no padding index, or one that is no real token",
        { operators: Operators::Exact(|name, shape, values, _| {
            if name == EMBEDDING {
                let columns = shape.last().copied().unwrap_or(0);
                values.iter_mut().take(columns).for_each(|value| *value = 0.0);
            }
        }) }
    ),
    hypothesis!(
        "position-rows-misaligned",
        "the gradient of the position embedding lands one row too far",
        None,
        "scatter by the position ids that were looked up",
        { operators: Operators::Exact(|name, shape, values, _| {
            if name == POSITIONS {
                values.rotate_right(shape.last().copied().unwrap_or(0));
            }
        }) }
    ),
    hypothesis!(
        "param-init-not-leaf",
        "the position embedding is the result of an operation at initialisation, and nobody trains it",
        Some("tracel-ai/burn#5235"),
        "make the parameter a leaf again after editing it: detach and require its gradient",
        { operators: Operators::Exact(|name, _, values, _| {
            if name == POSITIONS {
                values.fill(0.0);
            }
        }) }
    ),
    hypothesis!(
        "concat-gradient-misaligned",
        "the backward of a concatenation forgets to advance: the keys' part gets the queries' gradient",
        Some("tracel-ai/burn#4069"),
        "advance the offset for every part, tracked or not",
        { operators: Operators::Exact(|name, shape, values, _| {
            let third = shape.last().copied().unwrap_or(0) / 3;
            if name.contains("attn.c_attn") && third > 0 {
                values.chunks_exact_mut(3 * third).for_each(|row| row.copy_within(..third, third));
            }
        }) }
    ),
    hypothesis!(
        "scatter-backward-wrong-axis",
        "the backward of a square projection scatters along the other axis: its gradient is transposed",
        Some("tracel-ai/burn#3555, #2777"),
        "keep the axis of the forward for the backward",
        { operators: Operators::Exact(|name, shape, values, _| {
            if let (true, &[rows, columns]) = (name.ends_with("attn.c_proj.weight"), shape)
                && rows == columns
            {
                let original = values.to_vec();
                for (index, value) in values.iter_mut().enumerate() {
                    *value = original[index % columns * columns + index / columns];
                }
            }
        }) }
    ),
    hypothesis!(
        "last-element-lost",
        "a loop over a tensor ends one element early, and its last gradient stays zero",
        None,
        "run the loop to the tensor's end",
        { operators: Operators::OfOne(|beside| {
            let last = beside.honest.len().saturating_sub(1);
            let lost = beside.measured.last().is_some_and(|value| value.abs() <= 0.0)
                && beside.close(&beside.honest[..last], &beside.measured[..last]);
            if !beside.same() && lost { Fit::Loosely } else { beside.right() }
        }) }
    ),
    hypothesis!(
        "backward-factor",
        "a constant of a derivative is wrong: one tensor's gradient is a multiple of what it should be",
        None,
        "check the derivative of the operation that this tensor enters",
        { operators: Operators::OfOne(|beside| match beside.factor() {
            Some(factor) if !beside.same() && factor.abs() > 0.0 => Fit::Loosely,
            _ => beside.right(),
        }) }
    ),
    hypothesis!(
        "zero-grad-sparse-rows",
        "only what is written again is cleared: an element without a gradient keeps that of the call before",
        Some("paiml/entrenar#257, karpathy/llm.c#548"),
        "clear the whole gradient before each window",
        { operators: Operators::Exact(|_, _, values, before| {
            for (value, before) in values.iter_mut().zip(before.unwrap_or_default()) {
                if value.abs() <= 0.0 {
                    *value = *before;
                }
            }
        }) }
    ),
    hypothesis!(
        "fused-op-without-backward",
        "a fused layer norm registers no backward: everything before it gets no gradient",
        Some("huggingface/candle#2168, #3011, #3568, #3569"),
        "use the operation that has a backward under training, and treat a missing gradient as an error",
        { operators: Operators::Pattern(|beside| match beside.name {
            EMBEDDING => rows(beside, |beside, row| occurrences(beside, row) > 0),
            GAIN | BIAS if !zero(beside.measured) => beside.right(),
            _ if zero(beside.measured) => Fit::Exactly,
            _ => Fit::Not,
        }) }
    ),
    hypothesis!(
        "softmax-backward-diagonal-only",
        "the softmax of the attention passes y·(1 − y)·g back and drops the coupling of the keys",
        None,
        "dx = y·(g − Σ g·y)",
        { operators: Operators::Pattern(|beside| match layer(beside) {
            // Behind the last softmax everything is right, and so are the values that it weighs.
            Place::After | Place::LastBlock { attention: false } => beside.right(),
            Place::LastBlock { attention: true } if !same_values(beside) => Fit::Not,
            Place::LastBlock { attention: true } | Place::Before => beside.differs(),
        }) }
    ),
    hypothesis!(
        "layernorm-backward-mean-terms-dropped",
        "the layer norm's backward takes mean and variance for constants",
        None,
        "dx = (g − mean(g) − x̂·mean(g·x̂))/σ, with g multiplied by the gain first",
        { operators: Operators::Pattern(|beside| match sums_to_zero(beside) {
            Some(true) => Fit::Not,
            _ => before_the_last_norm(beside),
        }) }
    ),
    hypothesis!(
        "sqrt-grad-wrong-operand",
        "the derivative of a square root divides by the operand instead of its root, in the layer norm's deviation",
        Some("huggingface/candle#211, #534"),
        "d√x = g/(2·√x)",
        { operators: Operators::Pattern(|beside| match sums_to_zero(beside) {
            Some(false) => Fit::Not,
            _ => before_the_last_norm(beside),
        }) }
    ),
    hypothesis!(
        "gelu-backward-second-term",
        "the second term of the GELU's derivative has a wrong factor",
        Some("dfdx 0.13.0: `accurate_gelu`"),
        "differentiate x·Φ(x) as Φ(x) + x·φ(x)",
        { operators: Operators::Pattern(|beside| match layer(beside) {
            Place::After => beside.right(),
            // Behind the GELU there is only the projection.
            Place::LastBlock { .. } if beside.name.contains("mlp.c_proj") => beside.right(),
            Place::LastBlock { .. } | Place::Before => beside.differs(),
        }) }
    ),
    hypothesis!(
        "recompute-draws-new-dropout",
        "activations are recomputed under another dropout mask, and the gradient is another every time",
        Some("allenai/OLMo-core#828, pytorch/pytorch#190758, openai/guided-diffusion#167"),
        "restore the generator's state for the recomputation, or keep the mask",
        { repeatable: false, operators: Operators::Pattern(|_| Fit::Loosely) }
    ),
];

fn zero(values: &[f64]) -> bool {
    values.iter().all(|value| value.abs() <= 0.0)
}

/// How often a token is an input.
fn occurrences(beside: &Beside<'_>, row: usize) -> usize {
    let inputs = beside.call.batch.sequences().flat_map(Sequence::input_ids);
    inputs.filter(|&&token| token as usize == row).count()
}

/// Whether a token is an input more than once, those included that fill a micro-batch to one width: usually token 0.
fn repeated(beside: &Beside<'_>, row: usize) -> bool {
    let ragged = |micro_batch: &MicroBatch| {
        let mut lengths = micro_batch.sequences().iter().map(Sequence::len);
        let first = lengths.next();
        lengths.any(|length| Some(length) != first)
    };
    occurrences(beside, row) > 1 || row == 0 && beside.call.batch.micro_batches().any(ragged)
}

fn repeated_position(beside: &Beside<'_>, row: usize) -> bool {
    let ids = beside.call.batch.sequences().flat_map(Sequence::position_ids);
    ids.filter(|&&id| id as usize == row).count() > 1
}

/// Wrong in some of these rows of the embedding, and right everywhere else.
fn embedding_alone(beside: &Beside<'_>, may: impl Fn(&Beside<'_>, usize) -> bool) -> Fit {
    if beside.name == EMBEDDING { rows(beside, may) } else { beside.right() }
}

/// Wrong in some of these rows of the parameter alone.
fn rows(beside: &Beside<'_>, may: impl Fn(&Beside<'_>, usize) -> bool) -> Fit {
    let mut fit = Fit::Exactly;
    for (row, (honest, measured)) in beside.rows().enumerate() {
        if beside.close(honest, measured) {
            continue;
        }
        if !may(beside, row) {
            return Fit::Not;
        }
        fit = Fit::Loosely;
    }
    fit
}

/// Where in a GPT-2 a parameter stands, seen from the last block.
enum Place {
    Before,
    LastBlock { attention: bool },
    After,
}

fn layer(beside: &Beside<'_>) -> Place {
    if beside.name == GAIN || beside.name == BIAS {
        return Place::After;
    }
    match beside.name.strip_prefix(&format!("h.{}.", beside.layers.saturating_sub(1))) {
        // The residual stream hands the gradient on, and the norms of the last block's branches do not stand in its way.
        Some(rest) if rest.starts_with("attn.c_attn") => Place::LastBlock { attention: true },
        Some(rest) if rest.starts_with("ln_1") => Place::Before,
        Some(_) => Place::LastBlock { attention: false },
        None => Place::Before,
    }
}

/// Whether queries and keys alone are wrong.
fn same_values(beside: &Beside<'_>) -> bool {
    let width = beside.shape.last().copied().unwrap_or(3).max(3);
    let values = |all: &[f64]| -> Vec<f64> {
        all.chunks(width).flat_map(|row| row[row.len() * 2 / 3..].iter().copied()).collect()
    };
    beside.close(&values(beside.honest), &values(beside.measured))
}

/// Right behind the last layer norm, and wrong before it.
fn before_the_last_norm(beside: &Beside<'_>) -> Fit {
    match beside.name {
        GAIN | BIAS => beside.right(),
        EMBEDDING => rows(beside, |beside, row| occurrences(beside, row) > 0),
        _ => beside.differs(),
    }
}

/// A layer norm's input has a gradient that sums to zero over its elements, and the bias of the last projection has the
/// gradient of the last one's input, summed over positions.
fn sums_to_zero(beside: &Beside<'_>) -> Option<bool> {
    let last = format!("h.{}.mlp.c_proj.bias", beside.layers.saturating_sub(1));
    let size: f64 = beside.measured.iter().map(|value| value.abs()).sum();
    (beside.name == last && size > 0.0)
        .then(|| beside.measured.iter().sum::<f64>().abs() <= beside.numbers.tolerance * size)
}
