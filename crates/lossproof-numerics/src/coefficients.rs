//! How much of each of a few vectors another one is made of.

use crate::matrix::Matrix;
use crate::singular_values::SingularValues;
use crate::vector;

/// The smallest eigenvalue that the inner products of unit vectors may have for each to have a coefficient of its own:
/// the error of a coefficient grows with its inverse root, here sevenfold.
const SEPARATE: f64 = 0.02;

/// By how much the inner product of two unit vectors may exceed one: far more than rounding, and far less than what is
/// no inner product.
const ROUNDING: f64 = 1e-6;

/// The `x` with `Σ_i x_i·a_i ≈ b` in the sense of least squares, from the inner products `⟨a_i, a_j⟩`, row by row, and
/// `⟨a_i, b⟩`. `None` where the `a_i` are nearly dependent, or a product is not finite.
///
/// With it comes by how much the error of a coefficient can exceed that of the `a_i`: the inverse of the smallest
/// eigenvalue of the inner products of unit vectors.
///
/// Inner products square the condition, which costs nothing here: vectors that are so nearly dependent that it would
/// are refused.
///
/// ```
/// use lossproof_numerics::coefficients;
///
/// let (found, growth) = coefficients(&[2.0, 1.0, 1.0, 2.0], &[3.0, 3.0]).expect("independent vectors");
/// assert!(found.iter().all(|x| (x - 1.0).abs() < 1e-15) && (growth - 2.0).abs() < 1e-12);
/// assert_eq!(coefficients(&[1.0, 1.0, 1.0, 1.0], &[1.0, 1.0]), None);
/// // No vectors have such inner products.
/// assert_eq!(coefficients(&[1.0, 1e70, 1e70, 1.0], &[1.0, 1.0]), None);
/// ```
#[must_use]
pub fn coefficients(products: &[f64], right: &[f64]) -> Option<(Vec<f64>, f64)> {
    let unknowns = right.len();
    if unknowns == 0 || products.len() != unknowns * unknowns {
        return None;
    }
    let length = |index: usize| products[index * (unknowns + 1)].sqrt();
    let entry = |i: usize, j: usize| products[i * unknowns + j] / (length(i) * length(j));
    let scaled = Matrix::from_fn(unknowns, unknowns, entry);
    let right: Vec<f64> = (0..unknowns).map(|i| right[i] / length(i)).collect();
    let possible = |product: f64| product.abs() <= 1.0 + ROUNDING;
    let entries = (0..unknowns).flat_map(|column| scaled.column(column));
    if !entries.copied().all(possible) || !vector::is_finite(&right) {
        return None;
    }
    let SingularValues { values, left, right: images } = SingularValues::of(scaled)?;
    // The matrix is symmetric: its singular vectors are eigenvectors, and those of one pair are opposite where the
    // eigenvalue is negative.
    let eigenvalues = (0..unknowns).map(|index| vector::dot(left.column(index), images.column(index)));
    let least = eigenvalues.fold(f64::INFINITY, f64::min);
    if least < SEPARATE {
        return None;
    }
    let mut along = left.transposed_times(&right);
    for (along, value) in along.iter_mut().zip(values) {
        *along /= value * value;
    }
    let solved = images.times(&along);
    Some((solved.iter().enumerate().map(|(index, x)| x / length(index)).collect(), 1.0 / least))
}
