//! What is done with vectors element by element.
//!
//! This crate is optimised in every build, and those that compare gradients are not. A small function would be
//! compiled again by whoever calls it, so that none of these may be inlined.

/// The Euclidean norm.
#[must_use]
#[inline(never)]
pub fn norm(values: &[f64]) -> f64 {
    square(values).sqrt()
}

/// The Euclidean norm of the vector that some parts make up.
#[must_use]
pub fn norm_of_parts<'a>(parts: impl IntoIterator<Item = &'a [f64]>) -> f64 {
    parts.into_iter().map(square).sum::<f64>().sqrt()
}

#[inline(never)]
pub(crate) fn square(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}

/// `‖a − b‖`, over as many elements as the shorter has.
///
/// ```
/// # use lossproof_numerics::vector;
/// assert!((vector::distance(&[4.0, 1.0], &[1.0, 5.0]) - 5.0).abs() < 1e-15);
/// ```
#[must_use]
#[inline(never)]
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// How far values are from what was expected of them, and the norm of what was expected, both over numbers alone:
/// `None` where one side has a number and the other has none, or not as many values.
///
/// ```
/// # use lossproof_numerics::vector;
/// let found = vector::distance_of_numbers(&[4.0, f64::NAN], &[1.0, f64::INFINITY]);
/// assert_eq!(found, Some((3.0, 1.0)));
/// assert_eq!(vector::distance_of_numbers(&[4.0, f64::NAN], &[1.0, 2.0]), None);
/// ```
#[must_use]
#[inline(never)]
pub fn distance_of_numbers(found: &[f64], expected: &[f64]) -> Option<(f64, f64)> {
    if found.len() != expected.len() {
        return None;
    }
    let (mut apart, mut size) = (0.0, 0.0);
    for (a, b) in found.iter().zip(expected) {
        match (a.is_finite(), b.is_finite()) {
            (true, true) => {
                apart += (a - b) * (a - b);
                size += b * b;
            }
            (false, false) => {}
            _ => return None,
        }
    }
    Some((apart.sqrt(), size.sqrt()))
}

/// `a·b`, over as many elements as the shorter has.
#[must_use]
#[inline(never)]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `a − b`, over as many elements as the shorter has.
#[must_use]
#[inline(never)]
pub fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Adds `factor·other`, over as many elements as the shorter has.
#[inline(never)]
pub fn add_scaled(sum: &mut [f64], factor: f64, other: &[f64]) {
    for (own, value) in sum.iter_mut().zip(other) {
        *own += factor * value;
    }
}

/// Multiplies every element.
#[inline(never)]
pub fn scale(values: &mut [f64], factor: f64) {
    for value in values {
        *value *= factor;
    }
}

/// Whether every element is a number.
#[must_use]
#[inline(never)]
pub fn is_finite(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// The largest magnitude; zero of no elements, and NaN counts as nothing.
#[must_use]
#[inline(never)]
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_norm_of_the_whole() {
        assert!((norm_of_parts([&[3.0][..], &[], &[0.0, 4.0]]) - norm(&[3.0, 0.0, 4.0])).abs() < 1e-15);
        assert!(norm_of_parts([]) <= 0.0 && norm(&[]) <= 0.0);
    }

    #[test]
    fn what_is_no_number_is_not_finite_and_not_the_largest() {
        assert!(!is_finite(&[1.0, f64::NAN]) && !is_finite(&[f64::INFINITY]) && is_finite(&[]));
        assert!((largest(&[1.0, f64::NAN, -2.0]) - 2.0).abs() < 1e-15 && largest(&[]) <= 0.0);
    }

    #[test]
    fn sums_are_over_as_many_elements_as_the_shorter_has() {
        let mut sum = [1.0, 2.0];
        add_scaled(&mut sum, 2.0, &[1.0, 1.0, 1.0]);
        add_scaled(&mut sum, 2.0, &[1.0]);
        assert_eq!(minus(&sum, &[5.0, 4.0, 0.0]), [0.0, 0.0]);
        assert!((dot(&sum, &[1.0]) - 5.0).abs() < 1e-15 && (distance(&sum, &[2.0]) - 3.0).abs() < 1e-15);
    }
}
