//! What a system of linear equations leaves unexplained, whatever its unknowns are.

use crate::LeastSquaresError;
use nalgebra::{DMatrix, DVector};

/// The smallest pivot of a QR decomposition with exchanged columns that spans a direction, relative to the largest:
/// exact dependencies leave 1e-15.
const SPANS: f64 = 1e-10;

/// The space that the columns of a matrix span: all right sides `b` for which `A·x = b` has a solution.
///
/// ```
/// use lossproof_numerics::ColumnSpace;
///
/// // Three equations in one unknown: x = b₁, 2x = b₂, 3x = b₃.
/// let space = ColumnSpace::of(&[vec![1.0], vec![2.0], vec![3.0]])?;
/// assert!(space.outside(&[5.0, 10.0, 15.0]).iter().all(|rest| rest.abs() < 1e-12));
/// assert!(space.outside(&[5.0, 10.0, 14.0]).iter().any(|rest| rest.abs() > 0.1));
/// # Ok::<(), lossproof_numerics::LeastSquaresError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ColumnSpace {
    /// An orthonormal basis, one row per equation.
    basis: DMatrix<f64>,
}

impl ColumnSpace {
    /// The space of a matrix with these rows, one per equation.
    ///
    /// # Errors
    /// When the rows have different lengths, or an entry is not finite.
    pub fn of(rows: &[Vec<f64>]) -> Result<Self, LeastSquaresError> {
        let unknowns = rows.first().map_or(0, Vec::len);
        if let Some(row) = rows.iter().find(|row| row.len() != unknowns) {
            return Err(LeastSquaresError::Unknowns { found: row.len(), expected: unknowns });
        }
        if unknowns == 0 {
            return Ok(Self { basis: DMatrix::zeros(rows.len(), 0) });
        }
        let matrix = DMatrix::from_row_iterator(rows.len(), unknowns, rows.iter().flatten().copied());
        let broken = matrix.column_iter().position(|column| !column.norm_squared().is_finite());
        if let Some(column) = broken {
            return Err(LeastSquaresError::NotFinite { column: Some(column) });
        }
        // Not by singular values: theirs lose their accuracy where many rows are equal.
        let decomposed = matrix.col_piv_qr();
        let (directions, triangle) = (decomposed.q(), decomposed.r());
        let pivot = |index: usize| triangle[(index, index)].abs();
        let pivots = triangle.nrows().min(triangle.ncols());
        let spanning: Vec<_> = (0..pivots).filter(|&index| pivot(index) > SPANS * pivot(0)).collect();
        Ok(Self { basis: directions.select_columns(&spanning) })
    }

    /// How many unknowns, or sums of them, the equations determine.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.basis.ncols()
    }

    /// How much of an equation's right side enters its own explanation, from 0 to 1: at 1 it can be anything, for
    /// no other equation speaks of it.
    ///
    /// # Panics
    /// When there is no such equation.
    #[must_use]
    pub fn leverage(&self, equation: usize) -> f64 {
        self.basis.row(equation).norm_squared()
    }

    /// By equation: the largest part outside the space of the right sides' coordinates, relative to the largest
    /// value of that coordinate in any equation, or to `floor` of the largest of all coordinates if that is more. All
    /// values are finite.
    ///
    /// # Panics
    /// When there is not one right side for each equation, or one has another number of coordinates.
    #[must_use]
    pub fn worst_outside(&self, rights: &[Vec<f64>], floor: f64) -> Vec<f64> {
        let coordinates = rights.first().map_or(0, Vec::len);
        assert!(
            rights.iter().all(|right| right.len() == coordinates),
            "all right sides have as many coordinates"
        );
        let rights = DMatrix::from_row_iterator(rights.len(), coordinates, rights.iter().flatten().copied());
        let outside = &rights - &self.basis * (self.basis.transpose() * &rights);
        let floor = floor * rights.amax().max(f64::MIN_POSITIVE);
        let mut worst = vec![0.0_f64; rights.nrows()];
        for (outside, right) in outside.column_iter().zip(rights.column_iter()) {
            let scale = right.amax().max(floor);
            for (worst, rest) in worst.iter_mut().zip(outside.iter()) {
                *worst = worst.max(rest.abs() / scale);
            }
        }
        worst
    }

    /// What of a right side is outside the space: `b − A·x` with the `x` that leaves least.
    ///
    /// # Panics
    /// When there is not one number for each equation.
    #[must_use]
    pub fn outside(&self, right: &[f64]) -> Vec<f64> {
        let right = DVector::from_column_slice(right);
        let inside = &self.basis * (self.basis.transpose() * &right);
        (right - inside).iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equation_that_no_other_speaks_of_explains_itself() {
        let space = ColumnSpace::of(&[vec![1.0, 0.0], vec![1.0, 0.0], vec![0.0, 3.0]]).unwrap();
        assert_eq!(space.dimension(), 2);
        assert!((space.leverage(0) - 0.5).abs() < 1e-12 && (space.leverage(2) - 1.0).abs() < 1e-12);
        let rest = space.outside(&[1.0, 2.0, 7.0]);
        assert!((rest[0] + 0.5).abs() < 1e-12 && rest[2].abs() < 1e-12);
    }

    #[test]
    fn columns_that_depend_on_each_other_span_no_more() {
        let space =
            ColumnSpace::of(&[vec![1.0, 2.0, 3.0], vec![2.0, 4.0, 6.0], vec![0.0, 1.0, 1.0]]).unwrap();
        assert_eq!(space.dimension(), 2);
        assert_eq!(ColumnSpace::of(&[vec![], vec![]]).unwrap().dimension(), 0);
    }

    /// Sums of nine unknowns, each many times over: equal equations have equal rests.
    #[test]
    fn equations_that_are_there_many_times_stay_equal() {
        let of = |sequence: usize| (0..45).map(|at| f64::from(u8::from(at / 5 == sequence)) / 5.0).collect();
        let rows: Vec<Vec<f64>> = (0..90).map(|row| of(row % 9)).collect();
        let right: Vec<f64> = (0..90).map(|row| f64::from(row % 9) + 1.0).collect();
        let space = ColumnSpace::of(&rows).unwrap();
        assert_eq!(space.dimension(), 9);
        assert!(space.outside(&right).iter().all(|rest| rest.abs() < 1e-12));
    }

    #[test]
    fn what_is_no_matrix_is_an_error() {
        let error = ColumnSpace::of(&[vec![1.0], vec![1.0, 2.0]]).unwrap_err();
        assert_eq!(error, LeastSquaresError::Unknowns { found: 2, expected: 1 });
        let error = ColumnSpace::of(&[vec![f64::NAN]]).unwrap_err();
        assert_eq!(error, LeastSquaresError::NotFinite { column: Some(0) });
    }
}
