//! Backward operators: what they make of a gradient that reaches them.

use super::{HONEST, Hypothesis, hypothesis};
use crate::{
    gradient_comparison::GradientComparison,
    score::Grade,
    trainer_model::{BackwardEffect, TrainerModel},
};
use lossproof_spec::{MicroBatch, Role, Sequence};

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis(
        "index-backward-overwrites",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| match comparison.role {
                Role::PositionEmbedding => rows(comparison, repeated_position),
                _ => embedding_alone(comparison, repeated),
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "tied-embedding-detached",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| {
                // Not the repeated tokens alone.
                let fit = embedding_alone(comparison, |comparison, row| occurrences(comparison, row) > 0);
                if embedding_alone(comparison, repeated) == Grade::Loose { Grade::Poor } else { fit }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "tied-head-detached",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| {
                // What is left is the embedding's part: nothing for tokens that are no input.
                let rest = |(row, (_, measured)): (usize, (&[f64], &[f64]))| {
                    occurrences(comparison, row) > 0 || zero(measured)
                };
                match comparison.role {
                    Role::TokenEmbedding if !comparison.rows().enumerate().all(rest) => Grade::Impossible,
                    Role::TokenEmbedding => comparison.differs(),
                    _ => comparison.right(),
                }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "padding-index-without-gradient",
        TrainerModel {
            backward: BackwardEffect::Exact(|role, shape, values, _| {
                if role == Role::TokenEmbedding {
                    let columns = shape.last().copied().unwrap_or(0);
                    values.iter_mut().take(columns).for_each(|value| *value = 0.0);
                }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "position-rows-misaligned",
        TrainerModel {
            backward: BackwardEffect::Exact(|role, shape, values, _| {
                if role == Role::PositionEmbedding {
                    values.rotate_right(shape.last().copied().unwrap_or(0));
                }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "param-init-not-leaf",
        TrainerModel {
            backward: BackwardEffect::Exact(|role, _, values, _| {
                if role == Role::PositionEmbedding {
                    values.fill(0.0);
                }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "concat-gradient-misaligned",
        TrainerModel {
            backward: BackwardEffect::Exact(|role, shape, values, _| {
                let third = shape.last().copied().unwrap_or(0) / 3;
                if matches!(role, Role::QueryKeyValue | Role::QueryKeyValueBias) && third > 0 {
                    values.chunks_exact_mut(3 * third).for_each(|row| row.copy_within(..third, third));
                }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "scatter-backward-wrong-axis",
        TrainerModel {
            backward: BackwardEffect::Exact(|role, shape, values, _| {
                // Of the two that write into the residual stream, attention's is square.
                if let (Role::BlockOutput, &[rows, columns]) = (role, shape)
                    && rows == columns
                {
                    let original = values.to_vec();
                    for (index, value) in values.iter_mut().enumerate() {
                        *value = original[index % columns * columns + index / columns];
                    }
                }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "last-element-lost",
        TrainerModel {
            backward: BackwardEffect::OfOne(|comparison| {
                let last = comparison.honest.len().saturating_sub(1);
                let lost = comparison.measured.last().is_some_and(|value| value.abs() <= 0.0)
                    && comparison.close(&comparison.honest[..last], &comparison.measured[..last]);
                if !comparison.same() && lost { Grade::Loose } else { comparison.right() }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "backward-factor",
        TrainerModel {
            backward: BackwardEffect::OfOne(|comparison| match comparison.factor() {
                Some(factor) if !comparison.same() && factor.abs() > 0.0 => Grade::Loose,
                _ => comparison.right(),
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "zero-grad-sparse-rows",
        TrainerModel {
            backward: BackwardEffect::Exact(|_, _, values, before| {
                for (value, before) in values.iter_mut().zip(before.unwrap_or_default()) {
                    if value.abs() <= 0.0 {
                        *value = *before;
                    }
                }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "fused-op-without-backward",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| match comparison.role {
                Role::TokenEmbedding => rows(comparison, |comparison, row| occurrences(comparison, row) > 0),
                Role::FinalNormGain | Role::FinalNormBias if !zero(comparison.measured) => comparison.right(),
                _ if zero(comparison.measured) => Grade::Exact,
                _ => Grade::Impossible,
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "softmax-backward-diagonal-only",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| match layer(comparison) {
                // Behind the last softmax everything is right, and so are the values that it weighs.
                ParameterPlace::After | ParameterPlace::LastBlock { attention: false } => comparison.right(),
                ParameterPlace::LastBlock { attention: true } if !same_values(comparison) => {
                    Grade::Impossible
                }
                ParameterPlace::LastBlock { attention: true } | ParameterPlace::Before => {
                    comparison.differs()
                }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "layernorm-backward-mean-terms-dropped",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| match sums_to_zero(comparison) {
                Some(true) => Grade::Impossible,
                _ => before_the_last_norm(comparison),
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "sqrt-grad-wrong-operand",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| match sums_to_zero(comparison) {
                Some(false) => Grade::Impossible,
                _ => before_the_last_norm(comparison),
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "gelu-backward-second-term",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| match layer(comparison) {
                ParameterPlace::After => comparison.right(),
                // Behind the GELU there is only the projection.
                ParameterPlace::LastBlock { .. } if comparison.name.contains("mlp.c_proj") => {
                    comparison.right()
                }
                ParameterPlace::LastBlock { .. } | ParameterPlace::Before => comparison.differs(),
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "recompute-draws-new-dropout",
        TrainerModel { repeatable: false, backward: BackwardEffect::Pattern(|_| Grade::Loose), ..HONEST },
    ),
];

fn zero(values: &[f64]) -> bool {
    values.iter().all(|value| value.abs() <= 0.0)
}

/// How often a token is an input.
fn occurrences(comparison: &GradientComparison<'_>, row: usize) -> usize {
    let inputs = comparison.call.batch.sequences().flat_map(Sequence::input_ids);
    inputs.filter(|&&token| token as usize == row).count()
}

/// Whether a token is an input more than once, those included that fill a micro-batch to one width: usually
/// token 0.
fn repeated(comparison: &GradientComparison<'_>, row: usize) -> bool {
    let ragged = |micro_batch: &MicroBatch| {
        let mut lengths = micro_batch.sequences().iter().map(Sequence::len);
        let first = lengths.next();
        lengths.any(|length| Some(length) != first)
    };
    occurrences(comparison, row) > 1 || row == 0 && comparison.call.batch.micro_batches().any(ragged)
}

fn repeated_position(comparison: &GradientComparison<'_>, row: usize) -> bool {
    let ids = comparison.call.batch.sequences().flat_map(Sequence::position_ids);
    ids.filter(|&&id| id as usize == row).count() > 1
}

/// Wrong in some of these rows of the embedding, and right everywhere else.
fn embedding_alone(
    comparison: &GradientComparison<'_>,
    may: impl Fn(&GradientComparison<'_>, usize) -> bool,
) -> Grade {
    if comparison.role == Role::TokenEmbedding { rows(comparison, may) } else { comparison.right() }
}

/// Wrong in some of these rows of the parameter alone.
fn rows(comparison: &GradientComparison<'_>, may: impl Fn(&GradientComparison<'_>, usize) -> bool) -> Grade {
    let mut fit = Grade::Exact;
    for (row, (honest, measured)) in comparison.rows().enumerate() {
        if comparison.close(honest, measured) {
            continue;
        }
        if !may(comparison, row) {
            return Grade::Impossible;
        }
        fit = Grade::Loose;
    }
    fit
}

/// Where in a GPT-2 a parameter stands, seen from the last block.
enum ParameterPlace {
    Before,
    LastBlock { attention: bool },
    After,
}

fn is_of_the_final_norm(comparison: &GradientComparison<'_>) -> bool {
    matches!(comparison.role, Role::FinalNormGain | Role::FinalNormBias)
}

fn layer(comparison: &GradientComparison<'_>) -> ParameterPlace {
    if is_of_the_final_norm(comparison) {
        return ParameterPlace::After;
    }
    match comparison.name.strip_prefix(&format!("h.{}.", comparison.layers.saturating_sub(1))) {
        // The residual stream hands the gradient on, and the norms of the last block's branches do not stand
        // in its way.
        Some(rest) if rest.starts_with("attn.c_attn") => ParameterPlace::LastBlock { attention: true },
        Some(rest) if rest.starts_with("ln_1") => ParameterPlace::Before,
        Some(_) => ParameterPlace::LastBlock { attention: false },
        None => ParameterPlace::Before,
    }
}

/// Whether queries and keys alone are wrong.
fn same_values(comparison: &GradientComparison<'_>) -> bool {
    let width = comparison.shape.last().copied().unwrap_or(3).max(3);
    let values = |all: &[f64]| -> Vec<f64> {
        all.chunks(width).flat_map(|row| row[row.len() * 2 / 3..].iter().copied()).collect()
    };
    comparison.close(&values(comparison.honest), &values(comparison.measured))
}

/// Right behind the last layer norm, and wrong before it.
fn before_the_last_norm(comparison: &GradientComparison<'_>) -> Grade {
    match comparison.role {
        Role::FinalNormGain | Role::FinalNormBias => comparison.right(),
        Role::TokenEmbedding => rows(comparison, |comparison, row| occurrences(comparison, row) > 0),
        _ => comparison.differs(),
    }
}

/// A layer norm's input has a gradient that sums to zero over its elements, and the bias of the last
/// projection has the gradient of the last one's input, summed over positions.
fn sums_to_zero(comparison: &GradientComparison<'_>) -> Option<bool> {
    let last = format!("h.{}.mlp.c_proj.bias", comparison.layers.saturating_sub(1));
    let size: f64 = comparison.measured.iter().map(|value| value.abs()).sum();
    (comparison.name == last && size > 0.0)
        .then(|| comparison.measured.iter().sum::<f64>().abs() <= comparison.half_digits.tolerance * size)
}
