//! How far two logged numbers may be apart and still be the same.

use crate::{Ratio, Resolution, alignment::Pair};

/// How far two numbers may be apart.
pub(crate) struct Allowed {
    /// Relative to the larger.
    pub(crate) tolerance: f64,
    /// What was lost when the first and the second were printed.
    pub(crate) resolution: [Resolution; 2],
}

/// A number that was printed to less than this of itself tells nothing.
const TOO_COARSE: f64 = 0.01;

impl Allowed {
    /// Bound on the difference of two numbers that are the same.
    pub(crate) fn difference(&self, pair: &Pair) -> f64 {
        self.tolerance * pair.first.abs().max(pair.second.abs()) + self.printed(pair)
    }

    /// What was lost of both when they were printed.
    fn printed(&self, pair: &Pair) -> f64 {
        self.resolution[0].of(pair.first) + self.resolution[1].of(pair.second)
    }

    /// Whether two numbers are as near as they have to be. What is not finite is near nothing.
    pub(crate) fn near(&self, pair: &Pair) -> bool {
        let finite = pair.first.is_finite() && pair.second.is_finite();
        finite && (pair.first - pair.second).abs() <= self.difference(pair)
    }

    /// Whether two numbers are near only because so little of them was printed.
    pub(crate) fn is_too_coarse(&self, pair: &Pair) -> bool {
        let larger = pair.first.abs().max(pair.second.abs());
        self.near(pair)
            && self.printed(pair) > TOO_COARSE * larger
            && pair.first.to_bits() != pair.second.to_bits()
    }

    /// The quotient of two numbers, each of which was rounded when it was printed.
    pub(crate) fn ratio(&self, pair: &Pair) -> Option<Ratio> {
        let value = pair.second / pair.first;
        let printed = self.resolution[0].of(pair.first) / pair.first.abs()
            + self.resolution[1].of(pair.second) / pair.second.abs();
        let error = value.abs() * (self.tolerance + printed);
        (value.is_finite() && error.is_finite()).then_some(Ratio { value, error })
    }
}
