//! Linear least squares with many equations and few unknowns, and what the equations leave open.

use crate::matrix::Matrix;
use crate::reflections::triangle;
use crate::singular_values::SingularValues;
use crate::vector;

/// The smallest share of an open direction that makes an unknown part of it. Exact dependencies have shares of 1/2 and
/// rounding of 1e-15; see [`Equations::solve`] for dependencies that perturbations blur.
const SHARE: f64 = 1e-6;

/// And the largest that may be asked for: what has more of an open direction is not determined, however blurred it is.
const LARGEST_SHARE: f64 = 0.1;

/// The equations `A·x ≈ b`, kept as the triangle `[R | c]` that a QR decomposition of `[A | b]` leaves: it has the same
/// norms, residuals and solutions, and no more rows than unknowns and one.
///
/// ```
/// use lossproof_numerics::{Equations, Perturbation};
///
/// let equations = Equations::new(&[vec![1.0, 1.0, 0.0], vec![0.0, 1.0, 1.0]], &[2.0, 5.0, 3.0])?;
/// let solution = equations.solve(&Perturbation { columns: &[1e-16, 1e-16], right: 1e-15 })?;
/// assert!((solution.values[0] - 2.0).abs() < 1e-14 && (solution.values[1] - 3.0).abs() < 1e-14);
/// assert!(solution.groups.is_empty() && solution.residual < 1e-14);
/// # Ok::<(), lossproof_numerics::LeastSquaresError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Equations {
    reduced: Matrix,
    equations: usize,
}

/// How far from exact the equations may be.
#[derive(Clone, Copy, Debug)]
pub struct Perturbation<'a> {
    /// Bound on `‖δa_t‖`, for each column.
    pub columns: &'a [f64],
    /// Bound on `‖δb‖`.
    pub right: f64,
}

/// The least-squares solution, and how much of it there is.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// The unknowns. Those of a group are one choice of many: the one of least norm when columns are scaled
    /// to norm one.
    pub values: Vec<f64>,
    /// First-order bound on the error of each unknown; infinite for those of a group.
    pub errors: Vec<f64>,
    /// The unknowns that come closest to the equations, open directions included: no values leave less of all of them
    /// unexplained. The same as `values` where nothing is open.
    pub closest: Vec<f64>,
    /// Unknowns that the equations do not tell apart. Groups have no member in common.
    pub groups: Vec<Unresolved>,
    /// Singular values of `A` with its columns scaled to norm one, falling: as many as it has rows or columns.
    pub singular_values: Vec<f64>,
    /// The largest singular value over the smallest of those that determine something.
    pub condition: f64,
    /// `‖A·x − b‖`.
    pub residual: f64,
}

/// Unknowns whose columns are linearly dependent.
#[derive(Clone, Debug, PartialEq)]
pub struct Unresolved {
    /// Their indices, rising. A single one has a column of zero, or is entangled with nothing else by name.
    pub members: Vec<usize>,
    /// The sum of their values and its error, where the equations determine it: they do when the columns are equal.
    pub sum: Option<(f64, f64)>,
}

/// Why there is no solution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeastSquaresError {
    /// A column of another length than the right side.
    #[error(
        "column {column} has {found} entries, the right side has {expected}: every column needs one per equation"
    )]
    Length {
        /// Index of the column.
        column: usize,
        /// Entries found.
        found: usize,
        /// Entries wanted.
        expected: usize,
    },
    /// Parts, or bounds, for another number of unknowns.
    #[error("{found} unknowns where {expected} are expected: all parts need the same unknowns")]
    Unknowns {
        /// Unknowns found.
        found: usize,
        /// Unknowns wanted.
        expected: usize,
    },
    /// A number that is none.
    #[error("{} has an entry that is NaN, infinite or beyond the square root of the largest number", place(*column))]
    NotFinite {
        /// Index of the column; `None` for the right side.
        column: Option<usize>,
    },
    /// A bound that is none.
    #[error("a bound on perturbations is negative or not finite: give a norm")]
    Bound,
    /// The decomposition did not converge.
    #[error("the singular value decomposition did not converge")]
    NotConverged,
}

fn place(column: Option<usize>) -> String {
    column.map_or_else(|| "the right side".to_owned(), |column| format!("column {column}"))
}

impl Equations {
    /// Equations from the columns of `A` and the right side `b`.
    ///
    /// # Errors
    /// When a column has another length than the right side, or a norm is not finite.
    pub fn new<C: AsRef<[f64]>>(columns: &[C], right: &[f64]) -> Result<Self, LeastSquaresError> {
        let expected = right.len();
        let lengths = columns.iter().map(|column| column.as_ref().len()).enumerate();
        if let Some((column, found)) = lengths.into_iter().find(|&(_, found)| found != expected) {
            return Err(LeastSquaresError::Length { column, found, expected });
        }
        let columns = columns.iter().map(AsRef::as_ref).chain([right]);
        Self::reduce(Matrix::from_columns(expected, columns), expected)
    }

    /// Several systems in the same unknowns as one, the equations of each multiplied by its factor.
    ///
    /// # Errors
    /// When they have different numbers of unknowns, or a norm is not finite. `unknowns` is for the case of no parts.
    pub fn stack<'a>(
        unknowns: usize,
        parts: impl IntoIterator<Item = (f64, &'a Self)>,
    ) -> Result<Self, LeastSquaresError> {
        let mut columns = vec![Vec::new(); unknowns + 1];
        let mut equations = 0;
        for (factor, part) in parts {
            if part.unknowns() != unknowns {
                return Err(LeastSquaresError::Unknowns { found: part.unknowns(), expected: unknowns });
            }
            equations += part.equations;
            for (index, column) in columns.iter_mut().enumerate() {
                column.extend(part.reduced.column(index).iter().map(|entry| factor * entry));
            }
        }
        Self::reduce(Matrix::from_columns(columns[0].len(), &columns), equations)
    }

    fn reduce(matrix: Matrix, equations: usize) -> Result<Self, LeastSquaresError> {
        let unknowns = matrix.columns() - 1;
        if let Some(column) = matrix.first_broken_column() {
            return Err(LeastSquaresError::NotFinite { column: (column < unknowns).then_some(column) });
        }
        let tall = matrix.rows() > matrix.columns();
        let reduced = if tall { triangle(matrix) } else { matrix };
        Ok(Self { reduced, equations })
    }

    /// Number of unknowns.
    #[must_use]
    pub fn unknowns(&self) -> usize {
        self.reduced.columns() - 1
    }

    /// Number of equations, before they were reduced.
    #[must_use]
    pub fn equations(&self) -> usize {
        self.equations
    }

    /// `‖a_t‖`.
    ///
    /// # Panics
    /// When there is no such column.
    #[must_use]
    pub fn column_norm(&self, column: usize) -> f64 {
        assert!(column < self.unknowns(), "column {column} of {}", self.unknowns());
        vector::norm(self.reduced.column(column))
    }

    /// `‖b‖`.
    #[must_use]
    pub fn right_norm(&self) -> f64 {
        vector::norm(self.reduced.column(self.unknowns()))
    }

    /// `‖A·x − b‖`.
    ///
    /// # Panics
    /// When `x` has not one value per unknown.
    #[must_use]
    pub fn residual(&self, x: &[f64]) -> f64 {
        assert_eq!(x.len(), self.unknowns(), "one value per unknown");
        let explained = self.reduced.times(x);
        vector::distance(&explained, self.reduced.column(self.unknowns()))
    }

    /// Solves `min_x ‖A·x − b‖`.
    ///
    /// # Method
    /// Columns are scaled to norm one, so that a column is small only in direction: `A = Ã·D⁻¹`, and `x = D·Ã⁺·b` by the
    /// singular value decomposition of the triangle of `Ã`.
    ///
    /// A singular value is *open*, and determines nothing, when perturbations alone may have made it: when it
    /// is at most
    /// `tol = max(max(P, T)·2u·√T, (Σ_t (‖δa_t‖/‖a_t‖)²)^½)`, since a singular value moves by no more than
    /// the norm of the perturbation (Weyl 1912), and `√T ≥ σ_max` for T columns of norm one. With `N` the
    /// projection onto the open right singular vectors, unknown `t` is undetermined when `N_tt^½` exceeds the
    /// share that perturbations alone may give it,
    /// `tol/σ` with σ the smallest singular value that is not open (Wedin 1972), within 1e-6 and 0.1; two of
    /// them are in one group when `|N_st|` exceeds
    /// its square.
    ///
    /// # Error
    /// To first order (Björck, *Numerical Methods for Least Squares Problems*, 1996, §1.4.3) with `r = b − A·x`
    ///
    /// `δx = A⁺(δb − δA·x) + (AᵀA)⁺·δAᵀ·r`, so
    /// `|δx_t| ≤ ‖e_tᵀA⁺‖·(‖δb‖ + Σ_s |x_s|·‖δa_s‖) + Σ_s |(AᵀA)⁺_ts|·‖δa_s‖·‖r‖`.
    ///
    /// # Errors
    /// When the bounds are none or not one per column, or the decomposition does not converge.
    pub fn solve(&self, perturbation: &Perturbation<'_>) -> Result<Solution, LeastSquaresError> {
        let unknowns = self.unknowns();
        if perturbation.columns.len() != unknowns {
            let found = perturbation.columns.len();
            return Err(LeastSquaresError::Unknowns { found, expected: unknowns });
        }
        let bounds = perturbation.columns.iter().chain([&perturbation.right]);
        if bounds.into_iter().any(|bound| !bound.is_finite() || *bound < 0.0) {
            return Err(LeastSquaresError::Bound);
        }
        let norms: Vec<f64> = (0..unknowns).map(|t| self.column_norm(t)).collect();
        let scales: Vec<f64> = norms.iter().map(|&norm| if norm > 0.0 { 1.0 / norm } else { 0.0 }).collect();
        let right = self.reduced.column(unknowns);
        let resolved = self.resolve(scales.clone(), self.tolerance(perturbation, &norms))?;
        let values = resolved.solution(right);
        let closest = if resolved.is_whole() {
            values.clone()
        } else {
            self.resolve(scales, self.rounding())?.solution(right)
        };
        let residual = self.residual(&values);
        let open = resolved.groups();
        let absolute = Absolute { perturbation, values: &values, residual };
        let sum_of = |members: &[usize]| -> Vec<f64> {
            (0..unknowns).map(|t| if members.contains(&t) { 1.0 } else { 0.0 }).collect()
        };
        let errors = (0..unknowns).map(|t| {
            let grouped = open.iter().any(|group| group.contains(&t));
            if grouped { f64::INFINITY } else { absolute.error(&resolved, &sum_of(&[t])) }
        });
        let errors = errors.collect();
        let groups = open.iter().map(|members| {
            let sum = sum_of(members);
            let value = members.iter().map(|&t| values[t]).sum();
            let sum = resolved.determines(&sum).then(|| (value, absolute.error(&resolved, &sum)));
            Unresolved { members: members.clone(), sum }
        });
        let groups = groups.collect();
        let (singular_values, condition) = (resolved.singular_values.clone(), resolved.condition());
        Ok(Solution { values, errors, closest, groups, singular_values, condition, residual })
    }

    /// The decomposition of the columns, each multiplied by its scale.
    fn resolve(&self, scales: Vec<f64>, tolerance: f64) -> Result<Resolved, LeastSquaresError> {
        let entry = |row, column: usize| self.reduced.entry(row, column) * scales[column];
        let scaled = Matrix::from_fn(self.reduced.rows(), self.unknowns(), entry);
        Resolved::of(scaled, scales, tolerance)
    }

    /// The largest singular value that rounding and perturbations may have made, columns being scaled to norm one.
    fn tolerance(&self, perturbation: &Perturbation<'_>, norms: &[f64]) -> f64 {
        let relative = |(bound, norm): (&f64, &f64)| if *norm > 0.0 { bound / norm } else { 0.0 };
        let squares = perturbation.columns.iter().zip(norms.iter()).map(relative).map(|share| share * share);
        squares.sum::<f64>().sqrt().max(self.rounding())
    }

    /// The largest singular value that the rounding of the decomposition alone may have made, when the largest of T
    /// columns of norm one is at most √T.
    fn rounding(&self) -> f64 {
        self.equations.max(self.unknowns()) as f64 * f64::EPSILON * (self.unknowns() as f64).sqrt()
    }
}

/// The decomposition, open directions left out.
struct Resolved {
    singular_values: Vec<f64>,
    /// Left singular vectors, one a column.
    left: Matrix,
    /// Right singular vectors, one a column, divided by their singular values.
    inverse: Matrix,
    /// Projection onto the open directions.
    open: Matrix,
    /// What `x̃` is multiplied with to give `x`.
    scales: Vec<f64>,
    /// What of an open direction makes an unknown undetermined.
    share: f64,
}

impl Resolved {
    fn of(scaled: Matrix, scales: Vec<f64>, tolerance: f64) -> Result<Self, LeastSquaresError> {
        let unknowns = scaled.columns();
        let svd = SingularValues::of(scaled).ok_or(LeastSquaresError::NotConverged)?;
        // They fall.
        let kept: Vec<usize> = (0..svd.values.len()).take_while(|&i| svd.values[i] > tolerance).collect();
        let smallest = kept.last().map_or(f64::INFINITY, |&i| svd.values[i]);
        let mut inverse = svd.right.select(&kept);
        let mut open = Matrix::identity(unknowns);
        for &i in &kept {
            let direction = inverse.column_mut(i);
            vector::scale(direction, 1.0 / svd.values[i]);
            for (column, &share) in direction.iter().enumerate() {
                vector::add_scaled(open.column_mut(column), -share, direction);
            }
            vector::scale(direction, 1.0 / svd.values[i]);
        }
        let left = svd.left.select(&kept);
        let share = (tolerance / smallest).clamp(SHARE, LARGEST_SHARE);
        Ok(Self { singular_values: svd.values, left, inverse, open, scales, share })
    }

    fn scaled(&self, mut x: Vec<f64>) -> Vec<f64> {
        x.iter_mut().zip(&self.scales).for_each(|(x, scale)| *x *= scale);
        x
    }

    /// Whether no direction is left out.
    fn is_whole(&self) -> bool {
        self.inverse.columns() == self.singular_values.len()
    }

    fn solution(&self, right: &[f64]) -> Vec<f64> {
        self.scaled(self.inverse.times(&self.left.transposed_times(right)))
    }

    fn condition(&self) -> f64 {
        let kept = self.inverse.columns();
        match (self.singular_values.first(), kept.checked_sub(1)) {
            (Some(largest), Some(last)) => largest / self.singular_values[last],
            _ => f64::INFINITY,
        }
    }

    /// Whether the equations determine `functionalᵀ·x`.
    fn determines(&self, functional: &[f64]) -> bool {
        let scaled = self.scaled(functional.to_vec());
        let norm = vector::norm(&scaled);
        norm > 0.0 && vector::norm(&self.open.times(&scaled)) <= self.share * norm
    }

    /// The undetermined unknowns, those together that an open direction entangles.
    fn groups(&self) -> Vec<Vec<usize>> {
        let unknowns = self.open.rows();
        let mut rest: Vec<usize> =
            (0..unknowns).filter(|&t| self.open.entry(t, t).max(0.0).sqrt() > self.share).collect();
        let mut groups = Vec::new();
        while let Some(&first) = rest.first() {
            let mut group = vec![first];
            rest.remove(0);
            let mut next = 0;
            while let Some(&member) = group.get(next) {
                let entangled = |t: &usize| self.open.entry(member, *t).abs() > self.share * self.share;
                let (with, without) = rest.iter().partition(|t| entangled(t));
                rest = without;
                group.extend::<Vec<usize>>(with);
                next += 1;
            }
            group.sort_unstable();
            groups.push(group);
        }
        groups
    }
}

/// What a first-order error depends on, besides the decomposition.
struct Absolute<'a> {
    perturbation: &'a Perturbation<'a>,
    values: &'a [f64],
    residual: f64,
}

impl Absolute<'_> {
    /// Bound on the error of `functionalᵀ·x`.
    fn error(&self, resolved: &Resolved, functional: &[f64]) -> f64 {
        let row = resolved.inverse.transposed_times(&resolved.scaled(functional.to_vec()));
        let moved = self.values.iter().zip(self.perturbation.columns).map(|(x, bound)| x.abs() * bound);
        let right = self.perturbation.right + moved.sum::<f64>();
        let gram = resolved.scaled(resolved.inverse.times(&row));
        let bent = gram.iter().zip(self.perturbation.columns).map(|(entry, bound)| entry.abs() * bound);
        vector::norm(&row) * right + bent.sum::<f64>() * self.residual
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};

    const EXACT: f64 = 1e-15;

    fn columns(seed: u64, equations: usize, scales: &[f64]) -> Vec<Vec<f64>> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut column =
            |scale: &f64| (0..equations).map(|_| scale * (random.random::<f64>() - 0.5)).collect();
        scales.iter().map(&mut column).collect()
    }

    fn product(columns: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
        let row = |row: usize| columns.iter().zip(x).map(|(column, x)| column[row] * x).sum();
        (0..columns[0].len()).map(row).collect()
    }

    fn solve(columns: &[Vec<f64>], right: &[f64], relative: f64) -> Solution {
        let equations = Equations::new(columns, right).unwrap();
        let bounds: Vec<f64> = (0..columns.len()).map(|t| relative * equations.column_norm(t)).collect();
        let right = relative * equations.right_norm();
        equations.solve(&Perturbation { columns: &bounds, right }).unwrap()
    }

    #[test]
    fn columns_of_very_different_norm_are_not_singular() {
        let scales = [1.0, 1e-9, 1e7, 1e-4, 1.0];
        let columns = columns(1, 300, &scales);
        let truth = [0.5, 1e8, -1e-7, 0.0, 2.0];
        let solution = solve(&columns, &product(&columns, &truth), EXACT);
        assert!(solution.groups.is_empty() && solution.condition < 2.0, "{solution:?}");
        for ((value, truth), (error, scale)) in
            solution.values.iter().zip(truth).zip(solution.errors.iter().zip(scales))
        {
            assert!((value - truth).abs() <= *error, "{value} {truth} {error}");
            assert!(*error < 1e-13 / scale, "{error}");
        }
    }

    #[test]
    fn equal_columns_are_a_group_of_which_the_sum_exists() {
        let mut columns = columns(2, 50, &[1.0; 6]);
        columns[4] = columns[1].clone();
        columns[5] = columns[2].clone();
        let solution = solve(&columns, &product(&columns, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), EXACT);
        let members: Vec<_> = solution.groups.iter().map(|group| group.members.clone()).collect();
        assert_eq!(members, [[1, 4], [2, 5]]);
        for (group, expected) in solution.groups.iter().zip([7.0, 9.0]) {
            let (sum, error) = group.sum.unwrap();
            assert!((sum - expected).abs() <= error && error < 1e-13, "{sum} {error}");
        }
        assert!((solution.values[1] - 3.5).abs() < 1e-13 && solution.errors[1].is_infinite());
        assert!((solution.values[3] - 4.0).abs() <= solution.errors[3] && solution.errors[3] < 1e-13);
        assert!(solution.condition < 10.0);
    }

    #[test]
    fn dependencies_that_perturbations_blur_are_found() {
        let mut columns = columns(3, 400, &[1.0; 8]);
        columns[6] = columns[0].iter().enumerate().map(|(i, x)| x + 1e-8 * (i as f64).sin()).collect();
        let right = product(&columns, &[1.0; 8]);
        assert!(solve(&columns, &right, 1e-12).groups.is_empty());
        let blurred = solve(&columns, &right, 1e-7);
        assert_eq!(blurred.groups.len(), 1);
        assert_eq!(blurred.groups[0].members, [0, 6]);
        assert!((blurred.groups[0].sum.unwrap().0 - 2.0).abs() < 1e-7);
    }

    #[test]
    fn a_dependency_of_three_has_no_sum_and_a_zero_column_stands_alone() {
        let mut columns = columns(4, 50, &[1.0, 1.0, 0.0, 1.0, 1.0]);
        columns[3] = columns[0].iter().zip(&columns[1]).map(|(a, b)| a + 3.0 * b).collect();
        let solution = solve(&columns, &product(&columns, &[1.0; 5]), EXACT);
        let groups: Vec<_> = solution.groups.iter().map(|g| (g.members.clone(), g.sum)).collect();
        assert_eq!(groups, [(vec![0, 1, 3], None), (vec![2], None)]);
        assert!((solution.values[4] - 1.0).abs() < 1e-13);
    }

    #[test]
    fn fewer_equations_than_unknowns_leave_all_of_them_open() {
        let columns = columns(5, 3, &[1.0; 5]);
        let solution = solve(&columns, &[1.0, 2.0, 3.0], EXACT);
        assert_eq!(solution.groups.len(), 1);
        assert_eq!(solution.groups[0], Unresolved { members: vec![0, 1, 2, 3, 4], sum: None });
        assert!(solution.residual < 1e-14);
    }

    #[test]
    fn errors_bound_what_perturbations_do_and_are_not_far_from_it() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        let columns = columns(7, 200, &[1.0, 0.01, 3.0]);
        let mut right = product(&columns, &[1.0, 50.0, -2.0]);
        // A residual that is no perturbation.
        for value in &mut right {
            *value += 0.1 * (random.random::<f64>() - 0.5);
        }
        let relative = 1e-6;
        let exact = solve(&columns, &right, relative);
        let mut most = 0.0_f64;
        for _ in 0..200 {
            let mut perturbed = columns.clone();
            for column in perturbed.iter_mut().chain([&mut right.clone()]) {
                let noise: Vec<f64> = column.iter().map(|_| random.random::<f64>() - 0.5).collect();
                let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
                let factor = relative * norm(column) / norm(&noise);
                column.iter_mut().zip(noise).for_each(|(value, noise)| *value += factor * noise);
            }
            let solution = solve(&perturbed, &right, 0.0);
            for t in 0..3 {
                let error = (solution.values[t] - exact.values[t]).abs() / exact.errors[t];
                most = most.max(error);
            }
        }
        assert!((0.02..1.0).contains(&most), "{most}");
    }

    #[test]
    fn stacking_parts_is_the_whole_and_factors_weigh_them() {
        let columns = columns(8, 100, &[1.0; 4]);
        let right: Vec<f64> = (0..100).map(|i| f64::from(i).cos()).collect();
        let whole = solve(&columns, &right, EXACT);
        let part = |range: std::ops::Range<usize>| {
            let columns: Vec<_> = columns.iter().map(|column| &column[range.clone()]).collect();
            Equations::new(&columns, &right[range]).unwrap()
        };
        let parts = [part(0..3), part(3..40), part(40..100)];
        let stacked = Equations::stack(4, parts.iter().map(|part| (1.0, part))).unwrap();
        assert_eq!(stacked.equations(), 100);
        let solution = stacked.solve(&Perturbation { columns: &[EXACT; 4], right: EXACT }).unwrap();
        for (a, b) in solution.values.iter().zip(&whole.values) {
            assert!((a - b).abs() < 1e-14);
        }
        assert!((solution.residual - whole.residual).abs() < 1e-13);
        let parts_residual: f64 = parts.iter().map(|part| part.residual(&whole.values).powi(2)).sum();
        assert!((parts_residual.sqrt() - whole.residual).abs() < 1e-13);
        let last = Equations::stack(4, parts.iter().zip([1e-9, 1e-9, 1.0]).map(|(p, f)| (f, p))).unwrap();
        let last = last.solve(&Perturbation { columns: &[EXACT; 4], right: EXACT }).unwrap();
        let alone = parts[2].solve(&Perturbation { columns: &[EXACT; 4], right: EXACT }).unwrap();
        for (a, b) in last.values.iter().zip(&alone.values) {
            assert!((a - b).abs() < 1e-12);
        }
    }

    #[test]
    fn what_is_no_system_is_refused_with_its_place() {
        let error = |columns: &[Vec<f64>], right: &[f64]| Equations::new(columns, right).unwrap_err();
        let two = vec![vec![1.0, 2.0], vec![3.0]];
        assert_eq!(error(&two, &[1.0, 2.0]), LeastSquaresError::Length { column: 1, found: 1, expected: 2 });
        assert_eq!(error(&[vec![f64::NAN]], &[1.0]), LeastSquaresError::NotFinite { column: Some(0) });
        assert_eq!(error(&[vec![1.0]], &[f64::INFINITY]), LeastSquaresError::NotFinite { column: None });
        let one = Equations::new(&[vec![1.0, 0.0]], &[1.0, 1.0]).unwrap();
        assert_eq!(
            one.solve(&Perturbation { columns: &[], right: 0.0 }),
            Err(LeastSquaresError::Unknowns { found: 0, expected: 1 })
        );
        assert_eq!(
            one.solve(&Perturbation { columns: &[f64::NAN], right: 0.0 }),
            Err(LeastSquaresError::Bound)
        );
        let none: [Vec<f64>; 0] = [];
        let empty = Equations::new(&none, &[3.0, 4.0]).unwrap();
        let solution = empty.solve(&Perturbation { columns: &[], right: 0.0 }).unwrap();
        assert!((solution.residual - 5.0).abs() < 1e-14 && solution.values.is_empty());
    }
}
