//! How far apart two tensors are.

use lossproof_spec::CompensatedSum;

/// Squares that are added plainly before their sum enters the compensated one.
const BLOCK: u32 = 256;

/// What separates a tensor from what was expected of it, over the elements that were compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// `‖actual − expected‖`.
    pub difference: f64,
    /// `‖actual‖`.
    pub actual: f64,
    /// `‖expected‖`.
    pub expected: f64,
    /// The first element that is not finite on either side, otherwise the one with the largest difference; `None` when
    /// nothing differs.
    pub worst: Option<Worst>,
    /// Whether every element is finite on both sides.
    pub finite: bool,
    /// Number of elements compared. With none, nothing was checked.
    pub elements: usize,
}

/// The element that differs most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// Row-major index in the whole tensor.
    pub index: usize,
    /// Its value.
    pub actual: f64,
    /// The value expected of it.
    pub expected: f64,
}

impl Difference {
    /// `‖actual − expected‖ / scale`. Infinite when anything is not finite, on either side or in the scale, and when the
    /// scale is zero (or negative) but the difference is not; zero when both are zero.
    #[must_use]
    pub fn relative_to(&self, scale: f64) -> f64 {
        if !self.difference.is_finite() || !scale.is_finite() {
            f64::INFINITY
        } else if scale > 0.0 {
            self.difference / scale
        } else if self.difference > 0.0 {
            f64::INFINITY
        } else {
            0.0
        }
    }
}

impl Difference {
    /// The difference over the elements of both, `self` being of the earlier ones.
    #[must_use]
    pub fn merge(self, later: Self) -> Self {
        let worst = match (self.worst, later.worst) {
            (Some(own), Some(other)) => {
                let apart = |worst: Worst| (worst.actual - worst.expected).abs();
                let own_is_worse = !self.finite || (later.finite && apart(own) >= apart(other));
                Some(if own_is_worse { own } else { other })
            }
            (own, other) => own.or(other),
        };
        Self {
            difference: self.difference.hypot(later.difference),
            actual: self.actual.hypot(later.actual),
            expected: self.expected.hypot(later.expected),
            worst,
            finite: self.finite && later.finite,
            elements: self.elements + later.elements,
        }
    }
}

/// Compares two tensors, given as functions of the row-major index, at `indices`.
///
/// Norms are sums of squares in f64: plain over blocks of 256, compensated over the blocks. All terms are positive, so the
/// relative error of a norm is at most `(256/2 + 2)·u`, 1.5e-14, and about `√256/2·u`, 1e-15, by the probabilistic model,
/// whatever the size of the tensor. Squares overflow for elements beyond 1e154: then the norm is infinite and so is every
/// relative error. Where they underflow, below 1e-154, the largest element stands in for the norm, so that a difference is
/// never reported as none.
#[must_use]
pub fn difference(
    actual: impl Fn(usize) -> f64,
    expected: impl Fn(usize) -> f64,
    indices: impl Iterator<Item = usize>,
) -> Difference {
    let mut norms = [Norm::default(), Norm::default(), Norm::default()];
    let mut worst = None;
    let mut largest = 0.0;
    let mut finite = true;
    let mut elements = 0;
    indices.for_each(|index| {
        let (a, e) = (actual(index), expected(index));
        let d = a - e;
        for (norm, value) in norms.iter_mut().zip([d, a, e]) {
            norm.add(value);
        }
        if finite && !(a.is_finite() && e.is_finite()) {
            finite = false;
            worst = Some(Worst { index, actual: a, expected: e });
        }
        if finite && d.abs() > largest {
            largest = d.abs();
            worst = Some(Worst { index, actual: a, expected: e });
        }
        elements += 1;
    });
    let [difference, actual, expected] = norms.map(Norm::value);
    Difference { difference, actual, expected, worst, finite, elements }
}

/// A Euclidean norm in progress.
#[derive(Clone, Copy, Default)]
struct Norm {
    blocks: CompensatedSum,
    block: f64,
    in_block: u32,
    largest: f64,
}

impl Norm {
    fn add(&mut self, value: f64) {
        self.block += value * value;
        self.largest = self.largest.max(value.abs());
        self.in_block += 1;
        if self.in_block == BLOCK {
            self.blocks.add(self.block);
            (self.block, self.in_block) = (0.0, 0);
        }
    }

    fn value(mut self) -> f64 {
        self.blocks.add(self.block);
        let root = self.blocks.value().sqrt();
        if root < self.largest { self.largest } else { root }
    }
}

/// The Euclidean norm.
pub fn norm<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(actual: &[f64], expected: &[f64]) -> Difference {
        difference(|i| actual[i], |i| expected[i], 0..actual.len())
    }

    #[test]
    fn norms_and_the_worst_element() {
        let d = compare(&[3.0, 4.0, 0.0], &[3.0, 1.0, 1.0]);
        assert!((d.actual - 5.0).abs() < 1e-15 && (d.expected - 11.0_f64.sqrt()).abs() < 1e-15);
        assert!((d.difference - 10.0_f64.sqrt()).abs() < 1e-15);
        assert_eq!(d.worst, Some(Worst { index: 1, actual: 4.0, expected: 1.0 }));
        assert!(d.finite && d.elements == 3);
        assert!((d.relative_to(2.0) - 2.5_f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn only_the_given_indices_count_and_keep_their_place() {
        let d = difference(|i| i as f64, |_| 0.0, [5, 7].into_iter());
        assert_eq!(d.worst, Some(Worst { index: 7, actual: 7.0, expected: 0.0 }));
        assert!((d.difference - 74.0_f64.sqrt()).abs() < 1e-14 && d.elements == 2);
    }

    #[test]
    fn nothing_to_compare_and_nothing_different() {
        let equal = compare(&[1.0, -2.0], &[1.0, -2.0]);
        assert!(equal.worst.is_none() && equal.relative_to(0.0) == 0.0);
        let nothing = compare(&[], &[]);
        assert!(nothing.elements == 0 && nothing.worst.is_none() && nothing.relative_to(1.0) == 0.0);
    }

    #[test]
    fn what_is_not_finite_is_infinitely_wrong() {
        for (actual, expected) in
            [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, f64::INFINITY), (1.0, f64::NEG_INFINITY)]
        {
            let d = compare(&[9.0, actual, 5.0], &[1.0, expected, 100.0]);
            assert!(!d.finite && d.relative_to(1.0) == f64::INFINITY);
            assert_eq!(d.worst.unwrap().index, 1);
        }
        let d = compare(&[1.0], &[2.0]);
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(d.relative_to(scale) == f64::INFINITY);
        }
    }

    #[test]
    fn merging_is_comparing_together() {
        let actual = [1.0, 5.0, -2.0, 0.5, 3.0, f64::NAN];
        let expected = [1.5, 4.0, -2.0, 3.5, 3.0, 1.0];
        for split in 0..=6 {
            for end in split..=6 {
                let part = |range| difference(|i| actual[i], |i| expected[i], range);
                let (merged, whole) = (part(0..split).merge(part(split..end)), part(0..end));
                assert_eq!(
                    (merged.worst.map(|w| w.index), merged.finite),
                    (whole.worst.map(|w| w.index), whole.finite)
                );
                assert_eq!(merged.elements, whole.elements);
                if whole.finite {
                    assert!((merged.difference - whole.difference).abs() < 1e-15);
                    assert!((merged.actual - whole.actual).abs() < 1e-14);
                }
            }
        }
    }

    #[test]
    fn extreme_elements_are_never_reported_as_no_difference() {
        let tiny = compare(&[2e-200, 0.0], &[1e-200, 0.0]);
        assert!(tiny.difference > 0.0 && tiny.relative_to(tiny.expected) > 0.5);
        let huge = compare(&[2e200], &[1e200]);
        assert!(huge.finite && huge.relative_to(1e200) == f64::INFINITY);
    }

    #[test]
    fn the_error_of_a_norm_does_not_grow_with_the_tensor() {
        // 0.1² is not a binary fraction, and a naive sum of a million of them is off by 1e-11 of the result.
        let n = 1_000_003;
        let d = difference(|_| 0.1, |_| 0.0, 0..n);
        let exact = 0.1 * (n as f64).sqrt();
        assert!((d.actual / exact - 1.0).abs() < 130.0 * f64::EPSILON / 2.0, "{:e}", d.actual / exact - 1.0);
    }
}
