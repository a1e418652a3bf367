//! `A = Q·R`: a matrix as orthonormal columns and a triangle, by Householder's reflections.

use crate::matrix::Matrix;
use crate::vector;

/// The triangle `R` of `A = Q·R`, with the columns in their order and no more rows than columns.
pub(crate) fn triangle(mut matrix: Matrix) -> Matrix {
    let steps = matrix.rows().min(matrix.columns());
    for step in 0..steps {
        reflect(&mut matrix, step);
    }
    upper(&matrix, steps)
}

/// `A·P = Q·R` with the columns in an order that makes the diagonal of `R` fall, but for rounding: each is the one
/// that has most outside of those before it.
///
/// Each reflection `I − 2·v·vᵀ` makes one more column zero below the diagonal: *Householder QR with column
/// pivoting* of Golub and Van Loan, *Matrix Computations*.
pub(crate) struct Reflections {
    /// On the diagonal and above it `R`; what is below is not used.
    reflected: Matrix,
    /// The unit vectors `v`: the k-th has `rows − k` entries, and none where there was nothing to reflect.
    reflectors: Vec<Vec<f64>>,
    /// Which columns of `A` those of `R` are.
    order: Vec<usize>,
}

impl Reflections {
    pub(crate) fn with_exchanges(mut matrix: Matrix) -> Self {
        let steps = matrix.rows().min(matrix.columns());
        let mut order: Vec<usize> = (0..matrix.columns()).collect();
        let mut reflectors = Vec::with_capacity(steps);
        for step in 0..steps {
            let outside: Vec<f64> =
                (step..matrix.columns()).map(|column| vector::norm(&matrix.column(column)[step..])).collect();
            let largest = vector::largest(&outside);
            // The first of equals, so that equal columns stay in their order.
            let most = step + outside.iter().position(|norm| *norm >= largest).unwrap_or(0);
            if most > step {
                let (left, right) = matrix.two_columns_mut(step, most);
                left.swap_with_slice(right);
                order.swap(step, most);
            }
            reflectors.push(reflect(&mut matrix, step));
        }
        Self { reflected: matrix, reflectors, order }
    }

    /// `R`: as many rows as `A` has, but no more than columns.
    pub(crate) fn triangle(&self) -> Matrix {
        upper(&self.reflected, self.reflectors.len())
    }

    /// Which columns of `A` those of `R` are.
    pub(crate) fn order(&self) -> &[usize] {
        &self.order
    }

    /// The magnitudes on the diagonal of `R`.
    pub(crate) fn pivots(&self) -> Vec<f64> {
        (0..self.reflectors.len()).map(|index| self.reflected.entry(index, index).abs()).collect()
    }

    /// The first columns of `Q`.
    pub(crate) fn directions(&self, count: usize) -> Matrix {
        self.times(&Matrix::identity(count))
    }

    /// `Q·X`, where `X` has a row for each of the first columns of `Q`.
    pub(crate) fn times(&self, x: &Matrix) -> Matrix {
        let rows = self.reflected.rows();
        let product = |column: usize| {
            let mut product = x.column(column).to_vec();
            product.resize(rows, 0.0);
            for (step, reflector) in self.reflectors.iter().enumerate().rev() {
                apply(reflector, &mut product[step..]);
            }
            product
        };
        Matrix::from_columns(rows, (0..x.columns()).map(product))
    }
}

/// Makes the column of a step zero below the diagonal, and turns those to the right of it alike: the unit vector.
fn reflect(matrix: &mut Matrix, step: usize) -> Vec<f64> {
    let reflector = reflector(&matrix.column(step)[step..]);
    for column in step..matrix.columns() {
        apply(&reflector, &mut matrix.column_mut(column)[step..]);
    }
    reflector
}

/// What is on and above the diagonal, in so many rows.
fn upper(matrix: &Matrix, rows: usize) -> Matrix {
    let entry = |row, column| if row <= column { matrix.entry(row, column) } else { 0.0 };
    Matrix::from_fn(rows, matrix.columns(), entry)
}

/// The unit vector along `x ± ‖x‖·e₁` with the sign that cancels nothing; empty where `x` is zero.
fn reflector(x: &[f64]) -> Vec<f64> {
    let largest = vector::largest(x);
    if largest <= 0.0 {
        return Vec::new();
    }
    // Squares of very large or small entries would be no numbers, or have few digits.
    let mut along: Vec<f64> = x.iter().map(|entry| entry / largest).collect();
    along[0] += vector::norm(&along).copysign(along[0]);
    let length = vector::norm(&along);
    vector::scale(&mut along, 1.0 / length);
    along
}

/// `x ← (I − 2·v·vᵀ)·x`, or nothing where `v` is empty.
fn apply(reflector: &[f64], x: &mut [f64]) {
    if !reflector.is_empty() {
        let along = vector::dot(reflector, x);
        vector::add_scaled(x, -2.0 * along, reflector);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::random;

    /// That the columns of a matrix are orthonormal.
    fn assert_orthonormal(matrix: &Matrix) {
        for a in 0..matrix.columns() {
            for b in 0..matrix.columns() {
                let expected = if a == b { 1.0 } else { 0.0 };
                assert!(
                    (vector::dot(matrix.column(a), matrix.column(b)) - expected).abs() < 1e-14,
                    "{a} {b}"
                );
            }
        }
    }

    #[test]
    fn directions_times_the_triangle_are_the_matrix() {
        for (rows, columns) in [(1, 1), (40, 7), (7, 7), (3, 8), (5, 0), (0, 4)] {
            let matrix = random(1, rows, columns);
            let decomposed = Reflections::with_exchanges(matrix.clone());
            let (exchanged, directions) = (decomposed.triangle(), decomposed.directions(rows.min(columns)));
            assert_orthonormal(&directions);
            for (column, &of) in decomposed.order().iter().enumerate() {
                let found = directions.times(exchanged.column(column));
                assert!(vector::distance(&found, matrix.column(of)) < 1e-14 * (1.0 + rows as f64));
            }
            // Both have the same inner products.
            let plain = triangle(matrix.clone());
            for a in 0..columns {
                for b in 0..columns {
                    let expected = vector::dot(matrix.column(a), matrix.column(b));
                    assert!((vector::dot(plain.column(a), plain.column(b)) - expected).abs() < 1e-13);
                }
            }
        }
    }

    #[test]
    fn exchanged_columns_have_pivots_that_fall_to_nothing_where_columns_depend() {
        let mut matrix = random(2, 30, 9);
        let twice: Vec<f64> = matrix.column(3).iter().map(|entry| 2.0 * entry).collect();
        matrix.column_mut(8).copy_from_slice(&twice);
        matrix.column_mut(0).fill(0.0);
        let decomposed = Reflections::with_exchanges(matrix.clone());
        let pivots = decomposed.pivots();
        assert!(pivots.is_sorted_by(|a, b| a * (1.0 + 1e-14) >= *b), "{pivots:?}");
        assert!(pivots[6] > 0.1 && pivots[7] < 1e-14, "{pivots:?}");
        let directions = decomposed.directions(7);
        assert_orthonormal(&directions);
        for column in 0..9 {
            let inside = directions.times(&directions.transposed_times(matrix.column(column)));
            assert!(vector::distance(&inside, matrix.column(column)) < 1e-13);
        }
    }

    #[test]
    fn entries_whose_squares_are_no_numbers_or_have_few_digits_are_reflected_as_well() {
        for size in [1e-300, 1e-161, 1.0, 1e154] {
            let matrix = Matrix::from_columns(3, [[size, 0.8 * size, 0.0], [size, 0.0, 0.0]]);
            let plain = triangle(matrix);
            let found = (plain.entry(0, 0) / size, plain.entry(0, 1) / size, plain.entry(1, 1) / size);
            let norm = 1.64_f64.sqrt();
            assert!((found.0.abs() - norm).abs() < 1e-14 && (found.1.abs() - 1.0 / norm).abs() < 1e-14);
            assert!((found.2.abs() - 0.8 / norm).abs() < 1e-14, "{size:e}: {found:?}");
        }
    }
}
