//! Dense matrices, as small as systems of some hundred unknowns need them.
//!
//! The linear algebra of this crate is its own: it is two decompositions of one textbook page each, and a library of
//! them was a sixth of what building the judge of a trainer took.

use crate::vector;

/// Entries column by column, for both decompositions work on columns.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    rows: usize,
    columns: usize,
    entries: Vec<f64>,
}

impl Matrix {
    /// The matrix with these entries, which are given by row and column.
    pub(crate) fn from_fn(rows: usize, columns: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        let mut entries = Vec::with_capacity(rows * columns);
        for column in 0..columns {
            entries.extend((0..rows).map(|row| entry(row, column)));
        }
        Self { rows, columns, entries }
    }

    /// The matrix with these columns, all of them `rows` long.
    pub(crate) fn from_columns<C: AsRef<[f64]>>(rows: usize, columns: impl IntoIterator<Item = C>) -> Self {
        let columns = columns.into_iter();
        let mut matrix = Self { rows, columns: 0, entries: Vec::with_capacity(rows * columns.size_hint().0) };
        for column in columns {
            debug_assert_eq!(column.as_ref().len(), rows, "every column has one entry a row");
            matrix.entries.extend_from_slice(column.as_ref());
            matrix.columns += 1;
        }
        matrix
    }

    pub(crate) fn identity(size: usize) -> Self {
        Self::from_fn(size, size, |row, column| if row == column { 1.0 } else { 0.0 })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn entry(&self, row: usize, column: usize) -> f64 {
        self.entries[column * self.rows + row]
    }

    pub(crate) fn column(&self, column: usize) -> &[f64] {
        &self.entries[column * self.rows..(column + 1) * self.rows]
    }

    pub(crate) fn column_mut(&mut self, column: usize) -> &mut [f64] {
        &mut self.entries[column * self.rows..(column + 1) * self.rows]
    }

    /// Two columns at once, the first of them left of the second.
    pub(crate) fn two_columns_mut(&mut self, first: usize, second: usize) -> (&mut [f64], &mut [f64]) {
        let (before, after) = self.entries.split_at_mut(second * self.rows);
        (&mut before[first * self.rows..(first + 1) * self.rows], &mut after[..self.rows])
    }

    /// These columns, in this order.
    pub(crate) fn select(&self, columns: &[usize]) -> Self {
        Self::from_columns(self.rows, columns.iter().map(|&column| self.column(column)))
    }

    /// `A·x`.
    pub(crate) fn times(&self, x: &[f64]) -> Vec<f64> {
        let mut product = vec![0.0; self.rows];
        for (column, &factor) in x.iter().enumerate() {
            vector::add_scaled(&mut product, factor, self.column(column));
        }
        product
    }

    /// `Aᵀ·y`.
    pub(crate) fn transposed_times(&self, y: &[f64]) -> Vec<f64> {
        (0..self.columns).map(|column| vector::dot(self.column(column), y)).collect()
    }

    /// The first column whose squares do not add up to a number.
    pub(crate) fn first_broken_column(&self) -> Option<usize> {
        (0..self.columns).find(|&column| !vector::square(self.column(column)).is_finite())
    }
}

/// Entries between −1 and 1.
#[cfg(test)]
pub(crate) fn random(seed: u64, rows: usize, columns: usize) -> Matrix {
    use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut column = || (0..rows).map(|_| random.random_range(-1.0..1.0)).collect::<Vec<f64>>();
    let columns: Vec<Vec<f64>> = (0..columns).map(|_| column()).collect();
    Matrix::from_columns(rows, columns)
}
