//! Compensated summation.

/// A running sum whose rounding error does not grow with the number of terms: `|error| ≤ 2u·|Σx| + O(n·u²)·Σ|x|`
/// (Neumaier, ZAMM 54, 1974; Higham, *Accuracy and Stability*, §4.3).
///
/// ```
/// let mut sum = lossproof_spec::CompensatedSum::default();
/// sum.extend([1.0, 1e100, 1.0, -1e100]);
/// assert!((sum.value() - 2.0).abs() < 1e-15); // the naive sum is 0
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CompensatedSum {
    sum: f64,
    compensation: f64,
}

impl CompensatedSum {
    /// Adds one term.
    pub fn add(&mut self, term: f64) {
        let total = self.sum + term;
        self.compensation +=
            if self.sum.abs() >= term.abs() { (self.sum - total) + term } else { (term - total) + self.sum };
        self.sum = total;
    }

    /// The sum so far. Infinite or NaN when a term was, or when it left the range of f64.
    #[must_use]
    pub fn value(&self) -> f64 {
        // Once the sum is not finite the compensation is NaN and would hide which infinity was reached.
        if self.sum.is_finite() { self.sum + self.compensation } else { self.sum }
    }
}

impl Extend<f64> for CompensatedSum {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, terms: I) {
        for term in terms {
            self.add(term);
        }
    }
}

impl FromIterator<f64> for CompensatedSum {
    fn from_iter<I: IntoIterator<Item = f64>>(terms: I) -> Self {
        let mut sum = Self::default();
        sum.extend(terms);
        sum
    }
}
