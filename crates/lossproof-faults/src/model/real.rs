//! The numbers that the model computes with.

use num_traits::{Float, FloatConst, NumAssign};
use std::iter::Sum;

/// A number that the model computes with: f32 or f64.
pub(crate) trait Real: Float + FloatConst + NumAssign + Sum {}

impl<T: Float + FloatConst + NumAssign + Sum> Real for T {}

/// The number nearest to this one.
pub(crate) fn real<T: Real>(value: f64) -> T {
    T::from(value).unwrap_or_else(T::nan)
}
