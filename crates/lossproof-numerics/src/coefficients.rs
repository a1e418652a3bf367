//! How much of each of a few vectors another one is made of.

use nalgebra::{DMatrix, DVector};

/// The smallest eigenvalue that the inner products of unit vectors may have for each to have a coefficient of its own:
/// the error of a coefficient grows with its inverse root, here sevenfold.
const SEPARATE: f64 = 0.02;

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
/// ```
#[must_use]
pub fn coefficients(products: &[f64], right: &[f64]) -> Option<(Vec<f64>, f64)> {
    let unknowns = right.len();
    if unknowns == 0 || products.len() != unknowns * unknowns {
        return None;
    }
    let length = |index: usize| products[index * (unknowns + 1)].sqrt();
    let scaled =
        DMatrix::from_fn(unknowns, unknowns, |i, j| products[i * unknowns + j] / (length(i) * length(j)));
    let right = DVector::from_fn(unknowns, |i, _| right[i] / length(i));
    if !scaled.iter().chain(right.iter()).all(|value| value.is_finite()) {
        return None;
    }
    let least = scaled.symmetric_eigenvalues().min();
    let solved = scaled.cholesky().filter(|_| least >= SEPARATE)?.solve(&right);
    Some((solved.iter().enumerate().map(|(index, x)| x / length(index)).collect(), 1.0 / least))
}
