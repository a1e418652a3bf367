//! Backward operators: what they make of a gradient that reaches them.

use super::{HONEST, Hypothesis, hypothesis, is_ragged};
use crate::{
    gradient_comparison::{GradientComparison, Place},
    score::Grade,
    trainer_model::{BackwardEffect, TokenGradients, TrainerModel},
};
use lossproof_spec::{Role, Sequence};

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis(
        "index-backward-overwrites",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| match comparison.role {
                Role::PositionEmbedding => rows(comparison, repeated_position),
                _ => embedding_alone(comparison, repeated),
            }),
            token_gradients: TokenGradients::OfTheBatch,
            ..HONEST
        },
    ),
    hypothesis(
        "tied-embedding-detached",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| {
                if is_an_untied_embedding(comparison) {
                    return Grade::Impossible;
                }
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
                    _ if is_an_untied_embedding(comparison) => Grade::Impossible,
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
            loses: |role| Some(role == Role::PositionEmbedding),
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
                if role == Role::BlockOutput && is_square(shape) {
                    let columns = shape[1];
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
            token_gradients: TokenGradients::OfTheBatch,
            ..HONEST
        },
    ),
    hypothesis(
        "fused-op-without-backward",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| match comparison.role {
                Role::TokenEmbedding => rows(comparison, |comparison, row| occurrences(comparison, row) > 0),
                Role::Head | Role::HeadBias | Role::LogitScale => comparison.right(),
                Role::FinalNormGain | Role::FinalNormBias if !zero(comparison.measured) => comparison.right(),
                _ if zero(comparison.measured) => Grade::Exact,
                _ => Grade::Impossible,
            }),
            loses: |role| match role {
                // A tied one is the head, too.
                Role::TokenEmbedding | Role::FinalNormGain | Role::FinalNormBias => None,
                Role::Head | Role::HeadBias | Role::LogitScale => Some(false),
                _ => Some(true),
            },
            ..HONEST
        },
    ),
    hypothesis(
        "softmax-backward-diagonal-only",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| match comparison.place {
                Place::Unsaid => comparison.open(),
                Place::Before => comparison.differs(),
                Place::LastBlock => in_front_of_the_softmax(comparison),
                Place::After => comparison.right(),
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
            backward: BackwardEffect::Pattern(|comparison| match comparison.place {
                Place::Unsaid => comparison.open(),
                Place::Before => comparison.differs(),
                Place::LastBlock => in_front_of_the_gelu(comparison),
                Place::After => comparison.right(),
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "recompute-draws-new-dropout",
        TrainerModel {
            token_gradients: TokenGradients::Random,
            backward: BackwardEffect::Pattern(may_be_wrong),
            ..HONEST
        },
    ),
];

/// Whether a gradient is exactly zero.
pub(super) fn zero(values: &[f64]) -> bool {
    values.iter().all(|value| value.abs() <= 0.0)
}

/// Right or wrong, and nobody says which.
fn may_be_wrong(comparison: &GradientComparison<'_>) -> Grade {
    comparison.open()
}

/// Whether the head has weights of its own.
fn is_an_untied_embedding(comparison: &GradientComparison<'_>) -> bool {
    comparison.role == Role::TokenEmbedding && !comparison.tied
}

/// How often a token is an input.
fn occurrences(comparison: &GradientComparison<'_>, row: usize) -> usize {
    let inputs = comparison.call.batch.sequences().flat_map(Sequence::input_ids);
    inputs.filter(|&&token| token as usize == row).count()
}

/// Whether a token is an input more than once, those included that fill a micro-batch to one width: usually
/// token 0.
fn repeated(comparison: &GradientComparison<'_>, row: usize) -> bool {
    occurrences(comparison, row) > 1 || row == 0 && comparison.call.batch.micro_batches().any(is_ragged)
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

fn is_square(shape: &[usize]) -> bool {
    matches!(shape, [rows, columns] if rows == columns)
}

/// In the last block everything is right behind the softmax, and so are the values that it weighs.
fn in_front_of_the_softmax(comparison: &GradientComparison<'_>) -> Grade {
    match comparison.role {
        Role::QueryKeyValue | Role::QueryKeyValueBias if same_values(comparison) => comparison.differs(),
        Role::QueryKeyValue | Role::QueryKeyValueBias => Grade::Impossible,
        // One norm is in front of the softmax and one behind it, and a low-rank change may be one of any weight.
        Role::NormGain | Role::NormGainFromZero | Role::NormBias | Role::LowRankIn | Role::LowRankOut => {
            comparison.open()
        }
        _ => comparison.right(),
    }
}

/// In the last block there is only the feed-forward layer's projection behind the GELU, and attention's is in
/// front of it: usually that one is square.
fn in_front_of_the_gelu(comparison: &GradientComparison<'_>) -> Grade {
    match comparison.role {
        Role::BlockOutput if !is_square(comparison.shape) => comparison.right(),
        Role::BlockOutput | Role::BlockOutputBias | Role::LowRankIn | Role::LowRankOut => comparison.open(),
        _ => comparison.differs(),
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
        _ if comparison.place == Place::After => comparison.right(),
        Role::TokenEmbedding => rows(comparison, |comparison, row| occurrences(comparison, row) > 0),
        _ => comparison.differs(),
    }
}

/// Whether a bias of what a block writes into the residual stream has a gradient that sums to zero over its
/// elements, as that of a layer norm's input does, which it is but for the sum over positions. `None` of other
/// parameters, and where it need not: a root mean square norm has another null direction.
fn sums_to_zero(comparison: &GradientComparison<'_>) -> Option<bool> {
    let cancels = |values: &[f64]| {
        let size: f64 = values.iter().map(|value| value.abs()).sum();
        (size > 0.0).then(|| values.iter().sum::<f64>().abs() <= comparison.half_digits.tolerance * size)
    };
    if comparison.role != Role::BlockOutputBias || cancels(comparison.honest) != Some(true) {
        return None;
    }
    cancels(comparison.measured)
}
