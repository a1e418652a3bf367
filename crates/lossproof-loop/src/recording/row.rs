//! One quantity of a comparison: the worst of many differences, and its bound.

/// One quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is.
    pub quantity: &'static str,
    /// Numbers that were compared.
    pub numbers: usize,
    /// The worst difference: relative, or how many differ at all where the bound is zero.
    pub worst: f64,
    /// Where that is.
    pub place: String,
    /// What it may be.
    pub bound: f64,
}

impl Row {
    /// Whether it is within its bound. What was not compared does not hold.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.numbers > 0 && self.worst <= self.bound
    }
}

/// Many differences, of which the largest is kept.
pub(super) struct Differences {
    quantity: &'static str,
    numbers: usize,
    pub(super) largest: f64,
    pub(super) place: String,
}

impl Differences {
    pub(super) fn new(quantity: &'static str) -> Self {
        Self { quantity, numbers: 0, largest: 0.0, place: String::new() }
    }

    /// One number: how far beyond its slack it is from another, as part of the scale.
    pub(super) fn one(
        &mut self,
        found: f64,
        expected: f64,
        slack: f64,
        scale: f64,
        place: impl FnOnce() -> String,
    ) {
        self.numbers += 1;
        let same = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
        let beyond = ((found - expected).abs() - slack).max(0.0);
        let relative = if same || beyond <= 0.0 { 0.0 } else { beyond / scale.abs() };
        // Not a number is further away than anything.
        if relative > self.largest || relative.is_nan() {
            self.largest = if relative.is_nan() { f64::INFINITY } else { relative };
            self.place = place();
        }
    }

    pub(super) fn all(
        &mut self,
        found: &[f64],
        expected: &[f64],
        slack: impl Fn(usize) -> f64,
        scale: impl Fn(usize, f64) -> f64,
        place: impl Fn(usize) -> String,
    ) {
        if found.len() != expected.len() {
            self.largest = f64::INFINITY;
            self.place = format!("{}: {} numbers for {}", place(0), found.len(), expected.len());
        }
        for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            self.one(found, expected, slack(index), scale(index, expected), || place(index));
        }
    }

    pub(super) fn row(self, bound: f64) -> Row {
        let Self { quantity, numbers, largest: worst, place } = self;
        Row { quantity, numbers, worst, place, bound }
    }
}
