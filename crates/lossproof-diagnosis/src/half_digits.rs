//! Comparisons to half of a dtype's digits: hypotheses that predict numbers closer than that are not told apart.

use super::model::Fit;
use lossproof_numerics::norm;
use lossproof_spec::Dtype;

/// A hypothesis's word on a probe.
#[derive(Clone, Copy)]
pub(super) enum Said<T> {
    /// This.
    Value(T),
    /// No number: the mean of nothing.
    Nothing,
    /// Something that nobody can compute.
    Unknown,
}

impl<T> Said<T> {
    pub(super) fn as_ref(&self) -> Said<&T> {
        match self {
            Self::Value(value) => Said::Value(value),
            Self::Nothing => Said::Nothing,
            Self::Unknown => Said::Unknown,
        }
    }

    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Said<U> {
        match self {
            Self::Value(value) => Said::Value(change(value)),
            Self::Nothing => Said::Nothing,
            Self::Unknown => Said::Unknown,
        }
    }

    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Nothing | Self::Unknown => None,
        }
    }
}

/// Comparisons to half of a dtype's digits.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    pub(super) tolerance: f64,
    /// The smallest norm that a difference is relative to.
    pub(super) floor: f64,
}

impl Numbers {
    pub(super) fn same_number(self, found: f64, expected: f64) -> bool {
        found.to_bits() == expected.to_bits()
            || found.is_nan() && expected.is_nan()
            || expected.is_finite() && (found - expected).abs() <= self.tolerance * expected.abs()
    }

    pub(super) fn same(self, found: &[f64], expected: &[f64]) -> bool {
        if found.len() != expected.len() {
            return false;
        }
        // What is no number must be none on both sides.
        if found.iter().chain(expected).any(|value| !value.is_finite()) {
            return found.iter().zip(expected).all(|(a, b)| a.is_finite() == b.is_finite());
        }
        let apart: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        norm(&apart) <= self.tolerance * norm(expected).max(self.floor)
    }

    /// How a number fits what was said of it, `honest` being the right one.
    pub(super) fn fit_number(self, found: f64, said: &Said<f64>, honest: f64) -> Fit {
        let fits = match said {
            Said::Value(expected) => self.same_number(found, *expected),
            Said::Nothing => found.is_nan(),
            Said::Unknown if self.same_number(found, honest) => return Fit::Poorly,
            Said::Unknown => return Fit::Loosely,
        };
        if fits { Fit::Exactly } else { Fit::Not }
    }

    /// How values fit of which nothing is said but that they are wrong.
    pub(super) fn fit_unknown(self, found: &[f64], honest: &[f64]) -> Fit {
        if self.same(found, honest) { Fit::Poorly } else { Fit::Loosely }
    }

    pub(super) fn fit(self, found: &[f64], expected: &[f64]) -> Fit {
        if self.same(found, expected) { Fit::Exactly } else { Fit::Not }
    }
}

/// What two numbers may differ by, relative to their scale: half of the dtype's digits. Rounding at the sizes that are examined
/// is far below it (`docs/tolerances.md`), and what a hypothesis changes far above.
pub(super) fn tolerance(dtype: Dtype) -> f64 {
    dtype.unit_roundoff().sqrt()
}

/// The largest finite number.
pub(super) fn largest(dtype: Dtype) -> f64 {
    if dtype == Dtype::F64 { f64::MAX } else { f64::from(f32::MAX) }
}
