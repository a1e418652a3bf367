//! How far apart two tensors are.

use lossproof_spec::CompensatedSum;
use rayon::prelude::*;
use std::ops::Range;

/// Squares that are added plainly before their sum enters the compensated one.
const BLOCK: usize = 256;

/// Elements that one thread looks at in a row. Its sums do not depend on the number of threads.
const PART: usize = 65_536;

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
    /// `‖actual − expected‖ / scale`. Infinite when anything is not finite, on either side or in the scale,
    /// and when the scale is zero (or negative) but the difference is not; zero when both are zero.
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
/// Norms are sums of squares in f64: plain over blocks of 256, compensated over the blocks. All terms are
/// positive, so the relative error of a norm is at most `(256/2 + 2)·u`, 1.5e-14, and about `√256/2·u`,
/// 1e-15, by the probabilistic model, whatever the size of the tensor. Squares overflow for elements beyond
/// 1e154: then the norm is infinite and so is every relative error. Where they underflow, below 1e-154, the
/// largest element stands in for the norm, so that a difference is never reported as none.
#[must_use]
pub fn difference(
    actual: impl Fn(usize) -> f64,
    expected: impl Fn(usize) -> f64,
    indices: impl Iterator<Item = usize>,
) -> Difference {
    difference_at(&actual, &expected, &mut { indices })
}

/// [`difference`], compiled once and here, where loops are optimised.
fn difference_at(
    actual: &dyn Fn(usize) -> f64,
    expected: &dyn Fn(usize) -> f64,
    indices: &mut dyn Iterator<Item = usize>,
) -> Difference {
    let mut sums = Sums::default();
    let (mut at, mut a, mut e) = (Vec::new(), Vec::new(), Vec::new());
    for index in indices {
        at.push(index);
        a.push(actual(index));
        e.push(expected(index));
        if at.len() == BLOCK {
            sums.add(&a, &e, &|place| at[place]);
            at.clear();
            a.clear();
            e.clear();
        }
    }
    sums.add(&a, &e, &|place| at[place]);
    sums.difference()
}

/// [`difference`] of large tensors, at runs of row-major indices, of each of which `actual` and `expected` write
/// the values. Several threads look at it; the outcome does not depend on how many.
pub fn difference_in_runs(
    runs: impl IntoIterator<Item = Range<usize>>,
    actual: impl Fn(Range<usize>, &mut [f64]) + Sync,
    expected: impl Fn(Range<usize>, &mut [f64]) + Sync,
) -> Difference {
    let mut parts: Vec<(usize, Vec<Range<usize>>)> = Vec::new();
    for run in runs {
        for start in run.clone().step_by(PART) {
            let piece = start..run.end.min(start + PART);
            match parts.last_mut() {
                Some((elements, pieces)) if *elements + piece.len() <= PART => {
                    *elements += piece.len();
                    pieces.push(piece);
                }
                _ => parts.push((piece.len(), vec![piece])),
            }
        }
    }
    let of_part = |pieces: &[Range<usize>]| {
        let mut sums = Sums::default();
        let (mut a, mut e) = ([0.0; BLOCK], [0.0; BLOCK]);
        for piece in pieces {
            for start in piece.clone().step_by(BLOCK) {
                let block = start..piece.end.min(start + BLOCK);
                let length = block.len();
                actual(block.clone(), &mut a[..length]);
                expected(block, &mut e[..length]);
                sums.add(&a[..length], &e[..length], &|place| start + place);
            }
        }
        sums
    };
    let sums: Vec<Sums> = match parts.as_slice() {
        [(_, only)] => vec![of_part(only)],
        several => several.par_iter().map(|(_, pieces)| of_part(pieces)).collect(),
    };
    let mut all = Sums::default();
    for part in &sums {
        all.join(part);
    }
    all.difference()
}

/// What separates two tensors, in progress: of the difference, what is and what is expected, in this order.
#[derive(Clone, Copy, Default)]
struct Sums {
    squares: [CompensatedSum; 3],
    largest: [f64; 3],
    worst: Option<Worst>,
    infinite: bool,
    elements: usize,
}

impl Sums {
    /// Adds at most [`BLOCK`] elements; `index` is that in the whole tensor.
    fn add(&mut self, actual: &[f64], expected: &[f64], index: &dyn Fn(usize) -> usize) {
        // Sums side by side, which the processor adds at once.
        const LANES: usize = 4;
        let (mut squares, mut largest, mut finite) = ([[0.0_f64; LANES]; 3], [[0.0_f64; LANES]; 3], true);
        let mut add = |lane: usize, a: f64, e: f64| {
            for (kind, value) in [a - e, a, e].into_iter().enumerate() {
                squares[kind][lane] += value * value;
                largest[kind][lane] = largest[kind][lane].max(value.abs());
            }
            finite &= a.is_finite() & e.is_finite();
        };
        let ((actual_lanes, actual_rest), (expected_lanes, expected_rest)) =
            (actual.as_chunks::<LANES>(), expected.as_chunks::<LANES>());
        for (a, e) in actual_lanes.iter().zip(expected_lanes) {
            for lane in 0..LANES {
                add(lane, a[lane], e[lane]);
            }
        }
        for (&a, &e) in actual_rest.iter().zip(expected_rest) {
            add(0, a, e);
        }
        let largest = largest.map(|lanes| lanes.into_iter().fold(0.0, f64::max));
        let place = if self.infinite {
            None
        } else if !finite {
            self.infinite = true;
            actual.iter().zip(expected).position(|(a, e)| !(a.is_finite() && e.is_finite()))
        } else if largest[0] > self.largest[0] {
            actual.iter().zip(expected).position(|(a, e)| (a - e).abs() >= largest[0])
        } else {
            None
        };
        if let Some(place) = place {
            self.worst =
                Some(Worst { index: index(place), actual: actual[place], expected: expected[place] });
        }
        for (kind, lanes) in squares.iter().enumerate() {
            self.squares[kind].add(lanes.iter().sum());
            self.largest[kind] = self.largest[kind].max(largest[kind]);
        }
        self.elements += actual.len();
    }

    /// Adds what was found of later elements.
    fn join(&mut self, later: &Self) {
        if !self.infinite && (later.infinite || later.largest[0] > self.largest[0]) {
            self.worst = later.worst;
        }
        self.infinite |= later.infinite;
        self.elements += later.elements;
        for kind in 0..self.squares.len() {
            self.squares[kind].add(later.squares[kind].value());
            self.largest[kind] = self.largest[kind].max(later.largest[kind]);
        }
    }

    fn difference(&self) -> Difference {
        let norm = |kind: usize| {
            let root = self.squares[kind].value().sqrt();
            if root < self.largest[kind] { self.largest[kind] } else { root }
        };
        Difference {
            difference: norm(0),
            actual: norm(1),
            expected: norm(2),
            worst: self.worst,
            finite: !self.infinite,
            elements: self.elements,
        }
    }
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
    fn large_tensors_are_compared_as_small_ones_are() {
        let value = |index: usize, seed: f64| ((index as f64 + seed) * 0.618).fract() - 0.5;
        let fill = |seed: f64| {
            move |run: Range<usize>, out: &mut [f64]| {
                out.iter_mut().zip(run).for_each(|(out, index)| *out = value(index, seed));
            }
        };
        // A few elements, one long run, and the columns of a matrix.
        for (rows, width, length) in [(1, 3, 3), (1, 299_995, 299_995), (700, 900, 300)] {
            let runs: Vec<Range<usize>> = (0..rows).map(|row| row * width..row * width + length).collect();
            let indices: Vec<usize> = runs.iter().cloned().flatten().collect();
            let large = difference_in_runs(runs, fill(0.0), fill(0.3));
            let small = difference(|i| value(i, 0.0), |i| value(i, 0.3), indices.iter().copied());
            assert_eq!((large.worst, large.finite, large.elements), (small.worst, true, indices.len()));
            for (one, other) in [
                (large.difference, small.difference),
                (large.actual, small.actual),
                (large.expected, small.expected),
            ] {
                assert!((one - other).abs() <= 2e-15 * other, "{one} {other}");
            }
        }
        let nan = |run: Range<usize>, out: &mut [f64]| {
            out.iter_mut()
                .zip(run)
                .for_each(|(out, index)| *out = if index == 200_000 { f64::NAN } else { 1.0 });
        };
        let broken = difference_in_runs(std::iter::once(0..300_000), nan, |_, out: &mut [f64]| out.fill(0.5));
        assert_eq!((broken.worst.map(|worst| worst.index), broken.finite), (Some(200_000), false));
        assert!(broken.relative_to(1.0).is_infinite());
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
