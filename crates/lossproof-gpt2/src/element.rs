//! The element types the reference computes in.

use dfdx::shapes::Dtype as DfdxDtype;
use lossproof::{Dtype, GradientView};

/// An element type: f32 or f64.
pub trait Element: DfdxDtype {
    /// The same, as a value.
    const DTYPE: Dtype;

    /// Rounds to this type.
    fn round(value: f64) -> Self;

    /// The value, exactly.
    fn widen(self) -> f64;

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

    fn view(values: &[Self]) -> GradientView<'_> {
        GradientView::F64(values)
    }
}
