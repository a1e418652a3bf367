//! Masked multi-head self-attention.

use crate::{Element, affine::affine, config::Gpt2Config, dropout::apply_dropout, kernels::Kernels};
use dfdx::prelude::*;

/// Attention over `[count·width, C]`, heads merged again: `[count·width, C]`, before the output projection.
///
/// `bias` (`[count, width, width]`) is added to the scores `q·k/√(head size)` of every head; `dropped` are the
/// dropout factors of the weights, `[count, heads, width, width]`.
pub(crate) fn attention<K: Gpt2Config, E: Element, D: Kernels<E>, T: Tape<E, D>>(
    x: Tensor<(usize, K::Width), E, D, T>,
    weights: &[Tensor<(K::Width, K::Width), E, D>; 3],
    biases: &[Tensor<(K::Width,), E, D>; 3],
    bias: &Tensor<(usize, usize, usize), E, D>,
    dropped: Option<Vec<f64>>,
) -> Result<Tensor<(usize, K::Width), E, D, T>, D::Err> {
    let (x, tape) = x.split_tape();
    let (count, width, _) = *bias.shape();
    let (heads, size) = (K::Heads::default(), K::HeadSize::default());
    let split = (count, width, heads, size);

    let query = affine(x.clone().put_tape(tape), &weights[0], &biases[0])?.try_reshape_like(&split)?;
    let (query, tape) =
        query.try_permute::<(usize, K::Heads, usize, K::HeadSize), Axes4<0, 2, 1, 3>>()?.split_tape();
    let key = affine(x.clone().put_tape(tape), &weights[1], &biases[1])?.try_reshape_like(&split)?;
    let (key, tape) =
        key.try_permute::<(usize, K::Heads, K::HeadSize, usize), Axes4<0, 2, 3, 1>>()?.split_tape();
    let value = affine(x.put_tape(tape), &weights[2], &biases[2])?.try_reshape_like(&split)?;
    let (value, tape) =
        value.try_permute::<(usize, K::Heads, usize, K::HeadSize), Axes4<0, 2, 1, 3>>()?.split_tape();

    let scale = 1.0 / (K::HeadSize::SIZE as f64).sqrt();
    let scores = D::passing_on(query.put_tape(tape), |query| query.try_matmul(key))?;
    let weights = apply_dropout(D::attention_weights(scores, scale, bias)?, dropped)?;
    let attended = D::passing_on(weights, |weights| weights.try_matmul(value))?;
    let merged = attended.try_permute::<(usize, usize, K::Heads, K::HeadSize), Axes4<0, 2, 1, 3>>()?;
    merged.try_reshape_like(&(count * width, K::Width::default()))
}
