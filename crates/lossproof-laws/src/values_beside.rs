//! Values beside what is expected of them: how far apart they are, and whether one is a multiple of the other.

use lossproof_numerics::{Difference, difference};

/// Values beside what is expected of them, by index.
pub(crate) struct Values<A, E, I> {
    pub(crate) actual: A,
    pub(crate) expected: E,
    pub(crate) indices: I,
}

impl<A: Fn(usize) -> f64, E: Fn(usize) -> f64, N: Iterator<Item = usize>, I: Fn() -> N> Values<A, E, I> {
    /// How far apart they are.
    pub(crate) fn apart(&self) -> Difference {
        difference(&self.actual, &self.expected, (self.indices)())
    }

    /// The values' part along what is expected, of this norm, relative to that.
    pub(crate) fn along(&self, norm: f64) -> f64 {
        let inner: f64 = (self.indices)().map(|index| (self.actual)(index) * (self.expected)(index)).sum();
        inner / norm / norm
    }

    /// The factor that turns what is expected, of this norm, into the values, where there is one: both are
    /// parallel to a millionth.
    pub(crate) fn ratio(&self, norm: f64) -> Option<f64> {
        let factor = self.along(norm);
        let scaled = |index| factor * (self.expected)(index);
        let apart = difference(&self.actual, scaled, (self.indices)());
        (apart.difference <= 1e-6 * apart.actual && factor.is_finite()).then_some(factor)
    }
}
