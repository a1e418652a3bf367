//! The affine map of a linear layer.

use crate::{Element, kernels::Kernels};
use dfdx::prelude::{Dim, Tape, Tensor, TryMatMul};

/// `x·W + b`, the bias added to every row.
pub(crate) fn affine<I: Dim, O: Dim, E: Element, D: Kernels<E>, T: Tape<E, D>>(
    x: Tensor<(usize, I), E, D, T>,
    weight: &Tensor<(I, O), E, D>,
    bias: &Tensor<(O,), E, D>,
) -> Result<Tensor<(usize, O), E, D, T>, D::Err> {
    D::add_bias(D::passing_on(x, |x| x.try_matmul(weight.clone()))?, bias)
}
