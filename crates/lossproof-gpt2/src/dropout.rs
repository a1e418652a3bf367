//! Dropout, by factors that were worked out on the host.

use crate::Element;
use dfdx::prelude::*;

/// Every element times its dropout factor, where there are some.
pub(crate) fn apply_dropout<S: Shape, E: Element, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<S, E, D, T>,
    factors: Option<Vec<f64>>,
) -> Result<Tensor<S, E, D, T>, D::Err> {
    let Some(factors) = factors else { return Ok(x) };
    let factors = factors.into_iter().map(E::round).collect();
    let factors = x.device().try_tensor_from_vec(factors, *x.shape())?;
    x.try_mul(factors)
}
