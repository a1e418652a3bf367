//! The equations that the weights of a basis are to solve, part by part of the gradient.

use super::{
    TomographyError,
    basis::{Basis, TensorPart},
    precision::Precision,
};
use lossproof_numerics::{Equations, Perturbation, Solution, norm};
use lossproof_subject::TensorSet;
use std::collections::BTreeMap;

/// The equations of every part, and how exact they are.
pub(super) struct PartEquations<'a> {
    pub(super) basis: &'a Basis,
    precision: f64,
    /// The equations of each part.
    pub(super) of_part: Vec<Equations>,
    /// Bound on the relative error of each column.
    errors: Vec<f64>,
    /// Bound on the error of the gradient in each part that is there besides.
    floors: Vec<f64>,
}

/// The residual of a part, and what to compare it with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Misfit {
    pub(super) part: usize,
    pub(super) residual: f64,
    /// `max(‖g‖, Σ_t |w_t|·‖∇ℓ_t‖)` over the whole parameter.
    pub(super) scale: f64,
    /// What rounding and noise explain.
    pub(super) bound: f64,
}

impl Misfit {
    pub(super) fn explained(&self) -> bool {
        self.residual <= self.bound
    }
}

impl<'a> PartEquations<'a> {
    pub(super) fn new(
        basis: &'a Basis,
        gradient: &TensorSet,
        precision: &Precision,
    ) -> Result<Self, TomographyError> {
        let of_part = basis.equations(gradient)?;
        let floors = vec![0.0; of_part.len()];
        Ok(Self { basis, precision: precision.gradient, of_part, errors: basis.errors(), floors })
    }

    /// The same equations with a gradient that has an error of its own in some parameters, by their names.
    pub(super) fn above(mut self, floors: &BTreeMap<String, f64>) -> Self {
        let floor = |part: &TensorPart| floors.get(&part.parameter).copied().unwrap_or(0.0);
        self.floors = self.basis.parts().iter().map(floor).collect();
        self
    }

    /// Least squares over some parts. `residual` is what of the residual counts as an error of the gradient.
    pub(super) fn solve(&self, parts: &[usize], residual: f64) -> Result<Solution, TomographyError> {
        let unknowns = self.basis.len();
        let stacked = Equations::stack(unknowns, parts.iter().map(|&part| (1.0, &self.of_part[part])))?;
        let columns: Vec<f64> =
            self.errors.iter().enumerate().map(|(t, error)| error * stacked.column_norm(t)).collect();
        let mut right = self.precision * stacked.right_norm();
        let first = stacked.solve(&Perturbation { columns: &columns, right })?;
        // Rounding is that of the summands, and these are known only now.
        let summands = first.values.iter().enumerate().map(|(t, w)| w.abs() * stacked.column_norm(t));
        let floors: Vec<f64> = parts.iter().map(|&part| self.floors[part]).collect();
        right = right.max(self.precision * summands.sum::<f64>()).max(residual) + norm(&floors);
        Ok(stacked.solve(&Perturbation { columns: &columns, right })?)
    }

    /// Frobenius norm of the basis over the parameter of a part.
    pub(super) fn size(&self, part: usize) -> f64 {
        let columns = 0..self.basis.len();
        let square = |t: usize| self.over_parameter(part, &|equations| equations.column_norm(t)).powi(2);
        columns.map(square).sum::<f64>().sqrt()
    }

    /// A norm over all parts of the parameter that a part belongs to.
    fn over_parameter(&self, part: usize, norm: &dyn Fn(&Equations) -> f64) -> f64 {
        let parameter = &self.basis.parts()[part].parameter;
        let parts = self.basis.parts().iter().zip(&self.of_part);
        let siblings = parts.filter(|(sibling, _)| sibling.parameter == *parameter);
        siblings.map(|(_, equations)| norm(equations).powi(2)).sum::<f64>().sqrt()
    }

    /// The residual of each of some parts under given weights.
    pub(super) fn misfits(&self, parts: &[usize], weights: &[f64]) -> Vec<Misfit> {
        let misfit = |&part: &usize| {
            let over = |norm: &dyn Fn(&Equations) -> f64| self.over_parameter(part, norm);
            let (mut sum, mut basis) = (0.0, 0.0);
            for (t, (weight, error)) in weights.iter().zip(&self.errors).enumerate() {
                let summand = weight.abs() * over(&|equations| equations.column_norm(t));
                sum += summand;
                basis += error * summand;
            }
            let scale = over(&Equations::right_norm).max(sum);
            let bound = self.precision * scale + basis + self.floors[part];
            Misfit { part, residual: self.of_part[part].residual(weights), scale, bound }
        };
        parts.iter().map(misfit).collect()
    }
}
