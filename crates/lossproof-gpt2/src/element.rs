//! The element types the reference computes in.

use crate::exponential::Exponential;
use dfdx::shapes::Dtype as DfdxDtype;
use lossproof_spec::Dtype;
use lossproof_subject::GradientView;

/// An element type: f32 or f64.
pub trait Element: DfdxDtype {
    /// The same, as a value.
    const DTYPE: Dtype;

    /// Rounds to this type.
    fn round(value: f64) -> Self;

    /// The value, exactly.
    fn widen(self) -> f64;

    /// Square root, correctly rounded.
    #[must_use]
    fn sqrt(self) -> Self;

    /// Natural logarithm.
    #[must_use]
    fn ln(self) -> Self;

    /// The exponential function, to within 3 units of round-off. Below the normal numbers it is 0; where eˣ
    /// is above the largest number it is close to that.
    #[must_use]
    fn exp(self) -> Self;

    /// Values as a gradient.
    fn view(values: &[Self]) -> GradientView<'_>;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;

    #[expect(clippy::cast_possible_truncation, reason = "rounding to single precision is what is asked for")]
    fn round(value: f64) -> Self {
        value as Self
    }

    fn widen(self) -> f64 {
        f64::from(self)
    }

    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }

    fn ln(self) -> Self {
        Self::ln(self)
    }

    #[inline]
    fn exp(self) -> Self {
        Exponential::exp(self)
    }

    fn view(values: &[Self]) -> GradientView<'_> {
        GradientView::F32(values)
    }
}

impl Element for f64 {
    const DTYPE: Dtype = Dtype::F64;

    fn round(value: f64) -> Self {
        value
    }

    fn widen(self) -> f64 {
        self
    }

    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }

    fn ln(self) -> Self {
        Self::ln(self)
    }

    #[inline]
    fn exp(self) -> Self {
        Exponential::exp(self)
    }

    fn view(values: &[Self]) -> GradientView<'_> {
        GradientView::F64(values)
    }
}
