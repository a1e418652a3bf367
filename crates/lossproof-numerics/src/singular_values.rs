//! `A = U·Σ·Vᵀ`: the singular values of a matrix, by rotations of pairs of columns.

use crate::matrix::Matrix;
use crate::reflections::Reflections;
use crate::vector;

/// Sweeps over all pairs, of which a dozen are needed.
const SWEEPS: usize = 100;

/// The decomposition, the singular values falling: as many as `A` has rows or columns, whichever are fewer.
///
/// Pairs of columns are rotated until all are orthogonal; their norms then are the singular values (one-sided Jacobi,
/// Hestenes 1958). It is accurate where many singular values are equal, too. What is rotated is `Rᵀ` of
/// `A·P = Q·R`, which takes a fraction of the sweeps that `A` itself would (Drmač and Veselić 2008):
/// `Rᵀ·W = Z·Σ` makes `A = (Q·W)·Σ·(P·Z)ᵀ`.
pub(crate) struct SingularValues {
    pub(crate) values: Vec<f64>,
    /// `U`: left singular vectors, one a column.
    pub(crate) left: Matrix,
    /// `V·Σ`: column by column a right singular vector times its singular value. Those below `ε·σ₁` have no
    /// direction.
    pub(crate) right: Matrix,
}

impl SingularValues {
    /// `None` where a sweep after many still rotates, or an entry is no number.
    pub(crate) fn of(matrix: Matrix) -> Option<Self> {
        let decomposed = Reflections::with_exchanges(matrix);
        let triangle = decomposed.triangle();
        let mut rotated =
            Matrix::from_fn(triangle.columns(), triangle.rows(), |row, column| triangle.entry(column, row));
        let mut turned = Matrix::identity(triangle.rows());
        let mut sweeps = 0;
        while sweep(&mut rotated, &mut turned) {
            sweeps += 1;
            if sweeps == SWEEPS {
                return None;
            }
        }
        let norms: Vec<f64> =
            (0..rotated.columns()).map(|column| vector::norm(rotated.column(column))).collect();
        if !vector::is_finite(&norms) {
            return None;
        }
        let mut falling: Vec<usize> = (0..norms.len()).collect();
        falling.sort_by(|&a, &b| norms[b].total_cmp(&norms[a]));
        let mut places = vec![0; rotated.rows()];
        for (place, &column) in decomposed.order().iter().enumerate() {
            places[column] = place;
        }
        Some(Self {
            values: falling.iter().map(|&column| norms[column]).collect(),
            left: decomposed.times(&turned.select(&falling)),
            right: Matrix::from_fn(rotated.rows(), falling.len(), |row, column| {
                rotated.entry(places[row], falling[column])
            }),
        })
    }
}

/// Rotates every pair of columns once, and says whether one was not orthogonal yet.
fn sweep(matrix: &mut Matrix, turned: &mut Matrix) -> bool {
    let columns = matrix.columns();
    let mut squares: Vec<f64> = (0..columns).map(|column| vector::square(matrix.column(column))).collect();
    // Columns that are rounding beside the largest are zero: there is nothing to rotate in them.
    let largest = squares.iter().fold(0.0_f64, |largest, square| largest.max(*square));
    let nothing = largest * f64::EPSILON * f64::EPSILON;
    // Rounding of an inner product of this many terms.
    let orthogonal = f64::EPSILON * (matrix.rows() as f64).sqrt().max(1.0);
    let mut rotated = false;
    for first in 0..columns {
        for second in first + 1..columns {
            let (a, b) = (squares[first], squares[second]);
            if a <= nothing || b <= nothing {
                continue;
            }
            let (left, other) = matrix.two_columns_mut(first, second);
            let product = vector::dot(left, other);
            if product.abs() <= orthogonal * (a * b).sqrt() {
                continue;
            }
            rotated = true;
            // The smaller of the two angles: its tangent t solves t² + 2·ζ·t − 1 = 0.
            let zeta = (b - a) / (2.0 * product);
            let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
            let cosine = 1.0 / tangent.hypot(1.0);
            let sine = cosine * tangent;
            rotate(left, other, cosine, sine);
            squares[first] = vector::square(left);
            squares[second] = vector::square(other);
            let (left, other) = turned.two_columns_mut(first, second);
            rotate(left, other, cosine, sine);
        }
    }
    rotated
}

/// `(a, b) ← (c·a − s·b, s·a + c·b)`.
fn rotate(a: &mut [f64], b: &mut [f64], cosine: f64, sine: f64) {
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::random;

    fn assert_decomposes(matrix: &Matrix) -> SingularValues {
        let found = SingularValues::of(matrix.clone()).unwrap();
        assert_eq!(found.values.len(), matrix.rows().min(matrix.columns()));
        assert!(found.values.is_sorted_by(|a, b| a >= b), "{:?}", found.values);
        let largest = found.values.first().copied().unwrap_or(0.0);
        for a in 0..found.values.len() {
            for b in 0..found.values.len() {
                let expected = if a == b { 1.0 } else { 0.0 };
                let left = vector::dot(found.left.column(a), found.left.column(b));
                assert!((left - expected).abs() < 1e-13, "{a} {b}: {left}");
                let expected = expected * found.values[a] * found.values[a];
                let right = vector::dot(found.right.column(a), found.right.column(b));
                assert!((right - expected).abs() <= 1e-13 * largest * largest, "{a} {b}: {right}");
            }
        }
        for column in 0..matrix.columns() {
            let row: Vec<f64> =
                (0..found.values.len()).map(|index| found.right.entry(column, index)).collect();
            let sum = found.left.times(&row);
            assert!(vector::distance(&sum, matrix.column(column)) <= 1e-13 * largest, "{column}");
        }
        found
    }

    #[test]
    fn every_shape_is_decomposed() {
        for (rows, columns) in [(1, 1), (40, 7), (30, 30), (3, 8), (5, 0), (0, 4)] {
            assert_decomposes(&random(1, rows, columns));
        }
        let zero = Matrix::from_fn(4, 3, |_, _| 0.0);
        assert!(assert_decomposes(&zero).values.iter().all(|value| *value <= 0.0));
    }

    /// Of the Hilbert matrix of order five, computed with 30 digits.
    #[test]
    fn small_singular_values_are_as_accurate_as_large_ones() {
        let hilbert = Matrix::from_fn(5, 5, |row, column| 1.0 / (row + column + 1) as f64);
        let found = assert_decomposes(&hilbert);
        let expected = [
            1.567_050_691_098_231,
            0.208_534_218_611_013_33,
            0.011_407_491_623_419_806,
            3.058_980_401_511_917e-4,
            3.287_928_772_171_863e-6,
        ];
        for (found, expected) in found.values.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-10 * expected, "{found} {expected}");
        }
    }

    #[test]
    fn equal_rows_and_columns_leave_exactly_as_many_values_as_there_are_different_ones() {
        let matrix = Matrix::from_fn(90, 45, |row, column| f64::from(u8::from(row % 9 == column / 5)));
        let found = assert_decomposes(&matrix);
        assert!(found.values[..9].iter().all(|value| (value - 50.0_f64.sqrt()).abs() < 1e-13));
        assert!(found.values[9..].iter().all(|value| *value < 1e-14));
    }

    #[test]
    fn what_is_no_number_has_none() {
        assert!(SingularValues::of(Matrix::from_fn(2, 2, |_, _| f64::NAN)).is_none());
        let beyond = Matrix::from_fn(2, 2, |row, column| 1e200 * (1 + row + column) as f64);
        assert!(SingularValues::of(beyond).is_none());
    }

    /// Rows of weights from 1 to 1e-15 need dozens of sweeps where it is not the triangle that is rotated.
    #[test]
    fn rows_of_very_different_weight_are_few_sweeps() {
        let plain = random(3, 60, 60);
        let weight = |row: usize| 10.0_f64.powf(-15.0 * row as f64 / 59.0);
        assert_decomposes(&Matrix::from_fn(60, 60, |row, column| weight(row) * plain.entry(row, column)));
    }
}
