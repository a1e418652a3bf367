//! Comparisons to half of a dtype's digits: hypotheses that forecast numbers closer than that are not told
//! apart.

use crate::score::Grade;
use lossproof_numerics::vector;
use lossproof_spec::Dtype;

/// A gradient whose norm is this much smaller than that of all of them is as good as none.
pub(crate) const NEGLIGIBLE: f64 = 1024.0;

/// What a hypothesis forecasts of a measurement.
#[derive(Clone, Copy)]
pub(crate) enum Forecast<T> {
    /// This value.
    Value(T),
    /// No number: the mean of nothing.
    NoNumber,
    /// That it is wrong, and not how: nobody can compute it.
    Unsaid,
}

impl<T> Forecast<T> {
    /// The forecast with a borrowed value.
    pub(crate) fn as_ref(&self) -> Forecast<&T> {
        match self {
            Self::Value(value) => Forecast::Value(value),
            Self::NoNumber => Forecast::NoNumber,
            Self::Unsaid => Forecast::Unsaid,
        }
    }

    /// The forecast of something that follows from the value.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Forecast<U> {
        match self {
            Self::Value(value) => Forecast::Value(change(value)),
            Self::NoNumber => Forecast::NoNumber,
            Self::Unsaid => Forecast::Unsaid,
        }
    }

    /// The value, where there is one.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::NoNumber | Self::Unsaid => None,
        }
    }
}

/// Comparisons to half of a dtype's digits.
#[derive(Clone, Copy)]
pub(crate) struct HalfDigits {
    /// What two numbers may differ by, relative to their scale.
    pub(crate) tolerance: f64,
    /// The smallest norm that a difference is relative to.
    pub(crate) floor: f64,
}

impl HalfDigits {
    /// Comparisons in a dtype that are relative to what was expected, however small it is.
    pub(crate) fn of(dtype: Dtype) -> Self {
        Self { tolerance: tolerance(dtype), floor: 0.0 }
    }

    /// Whether a number is the expected one. NaN is where NaN was expected.
    pub(crate) fn same_number(self, found: f64, expected: f64) -> bool {
        found.to_bits() == expected.to_bits()
            || found.is_nan() && expected.is_nan()
            || expected.is_finite() && (found - expected).abs() <= self.tolerance * expected.abs()
    }

    /// Whether values are the expected ones.
    pub(crate) fn same(self, found: &[f64], expected: &[f64]) -> bool {
        // What is no number must be none on both sides.
        vector::distance_of_numbers(found, expected)
            .is_some_and(|(apart, size)| apart <= self.tolerance * size.max(self.floor))
    }

    /// How well a number agrees with its forecast, `honest` being the right one.
    pub(crate) fn grade_forecast(self, found: f64, forecast: &Forecast<f64>, honest: f64) -> Grade {
        match forecast {
            Forecast::Value(expected) => self.grade_number(found, *expected),
            Forecast::NoNumber => Grade::exact_or_impossible(found.is_nan()),
            Forecast::Unsaid if self.same_number(found, honest) => Grade::Poor,
            Forecast::Unsaid => Grade::Loose,
        }
    }

    /// How well a number agrees with the expected one.
    pub(crate) fn grade_number(self, found: f64, expected: f64) -> Grade {
        Grade::exact_or_impossible(self.same_number(found, expected))
    }

    /// How well values agree with the forecast that they are wrong.
    pub(crate) fn grade_wrong(self, found: &[f64], honest: &[f64]) -> Grade {
        if self.same(found, honest) { Grade::Poor } else { Grade::Loose }
    }

    /// How well values agree with the expected ones.
    pub(crate) fn grade(self, found: &[f64], expected: &[f64]) -> Grade {
        Grade::exact_or_impossible(self.same(found, expected))
    }
}

/// What two numbers may differ by, relative to their scale: half of the dtype's digits. Rounding at the sizes
/// that are examined is far below it (`docs/tolerances.md`), and what a hypothesis changes far above.
pub(crate) fn tolerance(dtype: Dtype) -> f64 {
    dtype.unit_roundoff().sqrt()
}
