//! The operations between the matrix products, each as one: a device may have its own version of them.
//!
//! [`composed`] writes every one of them in dfdx's operations, and that is what a device without a version of its own
//! computes with. On the CPU dfdx works element by element through an index, one temporary per operation; there
//! [`host`] has all of them in a pass or two over plain slices, and a test holds the two versions together.

#[cfg(test)]
mod agreement;
mod composed;
mod host;
mod slices;

use crate::Element;
use dfdx::prelude::*;

/// ε of every layer norm, inside the square root.
const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Label smoothing and z-loss of a cross-entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modified {
    /// ε: the target is `(1 − ε)·onehot + ε/V`.
    pub label_smoothing: f64,
    /// Factor of `(log Σ exp z)²`.
    pub z_loss: f64,
}

/// A device with the operations of GPT-2 that are not matrix products. Tensors given are contiguous: they
/// come from matrix products, sums and these operations.
///
/// What [`add_bias`](Self::add_bias), [`gelu`](Self::gelu), [`attention_weights`](Self::attention_weights) and
/// [`cross_entropy`](Self::cross_entropy) are given goes into nothing else: a version of a device's own may put its
/// gradient in the place of what is there. What the others are given may go elsewhere, too, and its gradients are added.
pub trait Kernels<E: Element>: Device<E> {
    /// `x + b`, the bias `[C]` added to every row of `[count, C]`.
    ///
    /// # Errors
    /// When the device has no room.
    fn add_bias<C: Dim, T: Tape<E, Self>>(
        x: Tensor<(usize, C), E, Self, T>,
        bias: &Tensor<(C,), E, Self>,
    ) -> Result<Tensor<(usize, C), E, Self, T>, Self::Err> {
        composed::add_bias(x, bias)
    }

    /// The tanh form of GELU, GPT-2's `gelu_new`: `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
    ///
    /// # Errors
    /// When the device has no room.
    fn gelu<S: Shape, T: Tape<E, Self>>(
        x: Tensor<S, E, Self, T>,
    ) -> Result<Tensor<S, E, Self, T>, Self::Err> {
        composed::gelu(x)
    }

    /// Layer norm of every row of `[count, C]`, with the biased variance.
    ///
    /// # Errors
    /// When the device has no room.
    fn layer_norm<C: Dim, T: Tape<E, Self>>(
        x: Tensor<(usize, C), E, Self, T>,
        gain: &Tensor<(C,), E, Self>,
        bias: &Tensor<(C,), E, Self>,
    ) -> Result<Tensor<(usize, C), E, Self, T>, Self::Err> {
        composed::layer_norm(x, gain, bias)
    }

    /// `softmax(scale·scores + bias)` over the keys: scores are `[count, heads, width, width]`, the bias
    /// `[count, width, width]` is every head's.
    ///
    /// # Errors
    /// When the device has no room.
    fn attention_weights<H: Dim, T: Tape<E, Self>>(
        scores: Tensor<(usize, H, usize, usize), E, Self, T>,
        scale: f64,
        bias: &Tensor<(usize, usize, usize), E, Self>,
    ) -> Result<Tensor<(usize, H, usize, usize), E, Self, T>, Self::Err> {
        composed::attention_weights(scores, scale, bias)
    }

    /// The cross-entropy of every row of logits `[count, V]` with its target.
    ///
    /// # Errors
    /// When the device has no room.
    fn cross_entropy<V: Dim, T: Tape<E, Self>>(
        logits: Tensor<(usize, V), E, Self, T>,
        targets: Vec<usize>,
        modified: Modified,
    ) -> Result<Tensor<(usize,), E, Self, T>, Self::Err> {
        composed::cross_entropy(logits, targets, modified)
    }

    /// What an operation of dfdx makes of a tensor. dfdx keeps the gradients of all tensors until the backward pass is
    /// over: a version of a device's own lets go of that of the output once the operation has passed it on. So it must
    /// be an operation that makes new numbers: what is only reshaped or permuted shares the gradient of what it is of,
    /// and which tensors share one dfdx does not say.
    ///
    /// # Errors
    /// When the operation fails.
    fn passing_on<I: Shape, O: Shape, T: Tape<E, Self>>(
        x: Tensor<I, E, Self, T>,
        operation: impl FnOnce(Tensor<I, E, Self, T>) -> Result<Tensor<O, E, Self, T>, Self::Err>,
    ) -> Result<Tensor<O, E, Self, T>, Self::Err> {
        operation(x)
    }

    /// Shows the gradient of a parameter, row-major.
    ///
    /// # Errors
    /// When the device has no room.
    fn with_gradient<S: Shape, R>(
        gradients: &mut Gradients<E, Self>,
        parameter: &Tensor<S, E, Self>,
        look: impl FnOnce(&[E]) -> R,
    ) -> Result<R, Self::Err> {
        Ok(look(&gradients.get(parameter).as_vec()))
    }

    /// Makes these values, row-major, the gradient of a parameter where it is zero so far.
    ///
    /// # Errors
    /// When the device has no room.
    fn put_gradient<S: Shape>(
        gradients: Gradients<E, Self>,
        parameter: &Tensor<S, E, Self>,
        values: &[E],
    ) -> Result<Gradients<E, Self>, Self::Err> {
        // A device's memory cannot be written to from here, but the gradient of Σ g·θ is g, to the last bit.
        let values = parameter.device().try_tensor_from_vec(values.to_vec(), *parameter.shape())?;
        parameter.trace(gradients).try_mul(values)?.try_sum()?.try_backward()
    }
}

#[cfg(feature = "cuda")]
impl<E: Element> Kernels<E> for Cuda where Self: Device<E> {}
