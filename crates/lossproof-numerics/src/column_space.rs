//! What a system of linear equations leaves unexplained, whatever its unknowns are.

use crate::LeastSquaresError;
use crate::matrix::Matrix;
use crate::reflections::Reflections;
use crate::vector;

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
    basis: Matrix,
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
        let matrix = Matrix::from_fn(rows.len(), unknowns, |row, column| rows[row][column]);
        if let Some(column) = matrix.first_broken_column() {
            return Err(LeastSquaresError::NotFinite { column: Some(column) });
        }
        let decomposed = Reflections::with_exchanges(matrix);
        let pivots = decomposed.pivots();
        // They fall, but for rounding.
        let spanning = pivots.iter().take_while(|&&pivot| pivot > SPANS * pivots[0]).count();
        Ok(Self { basis: decomposed.directions(spanning) })
    }

    /// How many unknowns, or sums of them, the equations determine.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.basis.columns()
    }

    /// How much of an equation's right side enters its own explanation, from 0 to 1: at 1 it can be anything, for
    /// no other equation speaks of it.
    ///
    /// # Panics
    /// When there is no such equation.
    #[must_use]
    pub fn leverage(&self, equation: usize) -> f64 {
        assert!(equation < self.basis.rows(), "equation {equation} of {}", self.basis.rows());
        (0..self.basis.columns()).map(|column| self.basis.entry(equation, column).powi(2)).sum()
    }

    /// By equation and coordinate of its right side: what is outside the space, relative to the largest value of that
    /// coordinate in any equation, or to `floor` of the largest of all coordinates if that is more. All values are
    /// finite.
    ///
    /// # Panics
    /// When there is not one right side for each equation, or one has another number of coordinates.
    #[must_use]
    pub fn relative_outside(&self, rights: &[Vec<f64>], floor: f64) -> Vec<Vec<f64>> {
        let coordinates = rights.first().map_or(0, Vec::len);
        assert!(
            rights.iter().all(|right| right.len() == coordinates),
            "all right sides have as many coordinates"
        );
        let largest = rights.iter().map(|right| vector::largest(right)).fold(f64::MIN_POSITIVE, f64::max);
        let mut relative = vec![Vec::with_capacity(coordinates); rights.len()];
        for coordinate in 0..coordinates {
            let right: Vec<f64> = rights.iter().map(|right| right[coordinate]).collect();
            let scale = vector::largest(&right).max(floor * largest);
            for (relative, rest) in relative.iter_mut().zip(self.outside(&right)) {
                relative.push(rest.abs() / scale);
            }
        }
        relative
    }

    /// What of a right side is outside the space: `b − A·x` with the `x` that leaves least.
    ///
    /// # Panics
    /// When there is not one number for each equation.
    #[must_use]
    pub fn outside(&self, right: &[f64]) -> Vec<f64> {
        assert_eq!(right.len(), self.basis.rows(), "one number for each equation");
        let inside = self.basis.times(&self.basis.transposed_times(right));
        vector::minus(right, &inside)
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
