//! Every operation in dfdx's own, for any device.

use super::{LAYER_NORM_EPSILON, Modified};
use crate::Element;
use dfdx::{prelude::*, shapes::Axis};

pub(super) fn add_bias<C: Dim, E: Element, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<(usize, C), E, D, T>,
    bias: &Tensor<(C,), E, D>,
) -> Result<Tensor<(usize, C), E, D, T>, D::Err> {
    let bias = bias.clone().try_broadcast_like::<_, Axis<0>>(x.shape())?;
    x.try_add(bias)
}

pub(super) fn gelu<S: Shape, E: Element, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<S, E, D, T>,
) -> Result<Tensor<S, E, D, T>, D::Err> {
    // `fast_gelu` is the tanh form; dfdx's `accurate_gelu` has a wrong gradient.
    x.try_fast_gelu()
}

pub(super) fn layer_norm<C: Dim, E: Element, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<(usize, C), E, D, T>,
    gain: &Tensor<(C,), E, D>,
    bias: &Tensor<(C,), E, D>,
) -> Result<Tensor<(usize, C), E, D, T>, D::Err> {
    let normed = x.try_normalize::<Axis<1>>(LAYER_NORM_EPSILON)?;
    let gain = gain.clone().try_broadcast_like::<_, Axis<0>>(normed.shape())?;
    add_bias(normed.try_mul(gain)?, bias)
}

pub(super) fn attention_weights<H: Dim, E: Element, D: Device<E>, T: Tape<E, D>>(
    scores: Tensor<(usize, H, usize, usize), E, D, T>,
    scale: f64,
    bias: &Tensor<(usize, usize, usize), E, D>,
) -> Result<Tensor<(usize, H, usize, usize), E, D, T>, D::Err> {
    let scores = scores.try_mul(E::round(scale))?;
    let bias = bias.clone().try_broadcast_like::<_, Axis<1>>(scores.shape())?;
    // Sums are contiguous; dfdx's softmax has a wrong gradient on views.
    scores.try_add(bias)?.try_softmax::<Axis<3>>()
}

pub(super) fn cross_entropy<V: Dim, E: Element, D: Device<E>, T: Tape<E, D>>(
    logits: Tensor<(usize, V), E, D, T>,
    targets: Vec<usize>,
    Modified { label_smoothing, z_loss }: Modified,
) -> Result<Tensor<(usize,), E, D, T>, D::Err> {
    let count = (targets.len(),);
    let targets = logits.device().try_tensor_from_vec(targets, count)?;
    let (logits, tape) = logits.split_tape();
    let log_probabilities = logits.clone().put_tape(tape).try_log_softmax::<Axis<1>>()?;
    let (log_probabilities, tape) = log_probabilities.split_tape();
    let mut losses = log_probabilities.clone().put_tape(tape).try_select(targets)?.try_negate()?;
    if label_smoothing > 0.0 {
        // (1 − ε)·(−log p_y) + ε·(mean over the vocabulary of −log p)
        let (plain, tape) = losses.try_mul(E::round(1.0 - label_smoothing))?.split_tape();
        let uniform = log_probabilities.put_tape(tape).try_mean::<(usize,), Axis<1>>()?;
        losses = uniform.try_mul(E::round(-label_smoothing))?.try_add(plain)?;
    }
    if z_loss > 0.0 {
        let (plain, tape) = losses.split_tape();
        let log_normaliser = logits.put_tape(tape).try_logsumexp::<(usize,), Axis<1>>()?;
        losses = log_normaliser.try_square()?.try_mul(E::round(z_loss))?.try_add(plain)?;
    }
    Ok(losses)
}
