//! From a basis and a gradient to the weights.

use super::{Basis, Precision, TomographyError, basis::Part, robust};
use lossproof_numerics::{Equations, Perturbation, Solution, norm};
use lossproof_subject::TensorSet;
use std::collections::BTreeMap;

/// The weight of every unknown of a basis in one gradient (or in reported losses), and how far to trust it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tomogram {
    /// What they are weights of.
    pub source: Source,
    /// One for each unknown, in the order of the basis.
    pub weights: Vec<Weight>,
    /// Unknowns that cannot be told apart.
    pub groups: Vec<WeightGroup>,
    /// Largest over smallest singular value of the equations, their columns scaled to norm one: by how much an error of the
    /// gradient may grow in the weights.
    pub condition: f64,
    /// Equations the weights were recovered from.
    pub equations: usize,
    /// `‖Σ_t w_t·∇ℓ_t − g‖` over the whole gradient, relative to the root of the sum of the squares of
    /// `max(‖g‖, Σ_t |w_t|·‖∇ℓ_t‖)` over each parameter.
    pub residual: f64,
    /// What of it rounding and noise explain, relative to the same.
    pub bound: f64,
    /// Parts of the gradient whose residual is larger than rounding and noise explain, the largest share first. The weights
    /// were then recovered from the other parts, or, when all parts are listed, are a mere fit.
    pub unexplained: Vec<Unexplained>,
    /// What these weights leave undetermined, in words.
    pub undetermined: Vec<String>,
}

/// What weights were recovered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The gradient: what is optimised.
    Gradient,
    /// Losses: what is logged.
    ReportedLoss,
}

/// The weight of one unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// What it is the weight of.
    pub name: String,
    /// The weight. In a group it is one choice of many.
    pub value: f64,
    /// First-order bound on its error, from the precision of subject and basis; infinite in a group.
    pub error: f64,
    /// Index of the group it cannot be told from.
    pub group: Option<usize>,
}

/// Unknowns with linearly dependent gradients, as when two positions share the whole prefix and the label.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightGroup {
    /// Their indices, rising.
    pub members: Vec<usize>,
    /// The sum of their weights and its error, where that exists: it does when their gradients are equal.
    pub sum: Option<(f64, f64)>,
}

/// A part of the gradient that no weighting explains.
#[derive(Clone, Debug, PartialEq)]
pub struct Unexplained {
    /// The parameter, or which part of it.
    pub name: String,
    /// Its residual, relative to `max(‖g‖, Σ_t |w_t|·‖∇ℓ_t‖)` over the parameter.
    pub residual: f64,
    /// What of it rounding and noise explain: as much as of the whole parameter.
    pub bound: f64,
    /// Its share of the square of the whole residual.
    pub share: f64,
}

/// Recovers the weights that a gradient gives the unknowns of a basis: `min_w ‖Σ_t w_t·∇ℓ_t − g‖`.
///
/// When rounding and noise explain the residual of every part, all of them enter. Otherwise the parts are fitted by least
/// absolute deviation, which a minority of wrong parts does not bend; the weights are those of the
/// parts that are then explained, if these are most parts and determine the weights, and the others are
/// [`unexplained`](Tomogram::unexplained). A backward pass that is wrong in a few tensors therefore still shows its weights.
///
/// `precision` is the subject's: see [`Observed`](super::Observed).
///
/// # Errors
/// When the gradient and the basis have not the same tensors, or the gradient is not finite.
pub fn recover(
    basis: &Basis,
    gradient: &TensorSet,
    precision: &Precision,
) -> Result<Tomogram, TomographyError> {
    recover_above(basis, gradient, precision, &BTreeMap::new())
}

/// [`recover`] where the gradient of a parameter has an error of its own, by name.
pub(super) fn recover_above(
    basis: &Basis,
    gradient: &TensorSet,
    precision: &Precision,
    floors: &BTreeMap<String, f64>,
) -> Result<Tomogram, TomographyError> {
    let mut fit = Fit::new(basis, gradient, precision)?;
    let floor = |part: &Part| floors.get(&part.parameter).copied().unwrap_or(0.0);
    fit.floors = basis.parts().iter().map(floor).collect();
    let all: Vec<usize> = (0..basis.parts().len()).collect();
    fit.recover(&all)
}

/// The equations of every part, and how exact they are.
pub(super) struct Fit<'a> {
    basis: &'a Basis,
    precision: f64,
    /// By part.
    pub(super) equations: Vec<Equations>,
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

impl<'a> Fit<'a> {
    pub(super) fn new(
        basis: &'a Basis,
        gradient: &TensorSet,
        precision: &Precision,
    ) -> Result<Self, TomographyError> {
        let equations = basis.equations(gradient)?;
        let floors = vec![0.0; equations.len()];
        Ok(Self { basis, precision: precision.gradient, equations, errors: basis.errors(), floors })
    }

    /// Recovers the weights from some parts.
    pub(super) fn recover(&self, parts: &[usize]) -> Result<Tomogram, TomographyError> {
        let mut trusted = parts.to_vec();
        let mut solution = self.solve(&trusted, 0.0)?;
        let mut misfits = self.misfits(parts, &solution.values);
        if !misfits.iter().all(Misfit::explained) {
            if let Some((explained, by_explained)) = robust::majority(self, parts, &solution)? {
                (trusted, solution) = (explained, by_explained);
            } else {
                // A fit that is none is as uncertain as its residual is large.
                solution = self.solve(&trusted, solution.residual)?;
            }
            misfits = self.misfits(parts, &solution.values);
        }
        Ok(self.tomogram(&trusted, solution, &misfits))
    }

    /// Least squares over some parts. `residual` is what of the residual counts as an error of the gradient.
    pub(super) fn solve(&self, parts: &[usize], residual: f64) -> Result<Solution, TomographyError> {
        let unknowns = self.basis.len();
        let stacked = Equations::stack(unknowns, parts.iter().map(|&part| (1.0, &self.equations[part])))?;
        let columns: Vec<f64> =
            self.errors.iter().enumerate().map(|(t, error)| error * stacked.column_norm(t)).collect();
        let mut right = self.precision * stacked.right_norm();
        let first = stacked.solve(&Perturbation { columns: &columns, right })?;
        // Rounding is that of the summands, and these are known only now.
        let summands = first.values.iter().enumerate().map(|(t, w)| w.abs() * stacked.column_norm(t));
        let floor = norm(parts.iter().map(|&part| &self.floors[part]));
        right = right.max(self.precision * summands.sum::<f64>()).max(residual) + floor;
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
        let parts = self.basis.parts().iter().zip(&self.equations);
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
            Misfit { part, residual: self.equations[part].residual(weights), scale, bound }
        };
        parts.iter().map(misfit).collect()
    }

    fn tomogram(&self, trusted: &[usize], solution: Solution, misfits: &[Misfit]) -> Tomogram {
        let whole = norm(misfits.iter().map(|misfit| &misfit.residual));
        // Scale and bound of every part are those of its whole parameter.
        let name = |misfit: &Misfit| self.basis.parts()[misfit.part].parameter.as_str();
        let by_parameter: BTreeMap<&str, &Misfit> =
            misfits.iter().map(|misfit| (name(misfit), misfit)).collect();
        let scale = norm(by_parameter.values().map(|misfit| &misfit.scale));
        let bound = norm(by_parameter.values().map(|misfit| &misfit.bound));
        let unexplained = misfits.iter().filter(|misfit| !misfit.explained()).map(|misfit| Unexplained {
            name: self.basis.parts()[misfit.part].name.clone(),
            residual: relative(misfit.residual, misfit.scale),
            bound: relative(misfit.bound, misfit.scale),
            share: (misfit.residual / whole).powi(2),
        });
        let mut unexplained: Vec<_> = unexplained.collect();
        unexplained.sort_by(|a, b| b.share.total_cmp(&a.share));
        let tomogram = weights(solution, self.basis.names());
        Tomogram {
            equations: trusted.iter().map(|&part| self.equations[part].equations()).sum(),
            residual: relative(whole, scale),
            bound: relative(bound, scale),
            unexplained,
            undetermined: self.basis.undetermined().to_vec(),
            ..tomogram.with_common_error(self.basis.common_error())
        }
    }
}

fn relative(value: f64, scale: f64) -> f64 {
    if value > 0.0 { value / scale } else { 0.0 }
}

impl Tomogram {
    /// Every weight known up to a factor that itself is known to a relative error.
    fn with_common_error(mut self, relative: f64) -> Self {
        for weight in &mut self.weights {
            weight.error += relative * weight.value.abs();
        }
        for (sum, error) in self.groups.iter_mut().filter_map(|group| group.sum.as_mut()) {
            *error += relative * sum.abs();
        }
        self
    }
}

/// A tomogram with the weights of a solution alone.
pub(super) fn weights<'a>(solution: Solution, names: impl Iterator<Item = &'a str>) -> Tomogram {
    let group = |t: usize| solution.groups.iter().position(|group| group.members.contains(&t));
    let values = solution.values.iter().zip(&solution.errors).zip(names).enumerate();
    let weight = |(t, ((&value, &error), name)): (usize, ((&f64, &f64), &str))| Weight {
        name: name.to_owned(),
        value,
        error,
        group: group(t),
    };
    let weights = values.map(weight).collect();
    let groups = solution.groups.into_iter();
    Tomogram {
        source: Source::Gradient,
        weights,
        groups: groups.map(|group| WeightGroup { members: group.members, sum: group.sum }).collect(),
        condition: solution.condition,
        equations: 0,
        residual: 0.0,
        bound: 0.0,
        unexplained: Vec::new(),
        undetermined: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tomography::{
        Observed,
        toy::{self, Toy},
    };
    use lossproof_spec::{GlobalBatch, LossSpec, TokenWeights};
    use lossproof_subject::Subject;

    fn batch() -> GlobalBatch {
        toy::batch([5, 3, 4, 3], |index, p| index == 0 && p == 2)
    }

    fn basis(batch: &GlobalBatch) -> Basis {
        Basis::of_reference(&mut Toy::new(), &LossSpec::sum(), batch).unwrap()
    }

    fn assert_weights(tomogram: &Tomogram, spec: &LossSpec, batch: &GlobalBatch, factor: f64) {
        let truth = TokenWeights::new(spec, &batch.layout()).unwrap().per_prediction(batch);
        assert_eq!(truth.len(), tomogram.weights.len());
        for (weight, truth) in tomogram.weights.iter().zip(truth) {
            let error = (weight.value - factor * truth).abs();
            assert!(error <= weight.error && weight.error < 1e-10, "{weight}, not {truth}");
        }
    }

    #[test]
    fn weights_come_out_with_their_errors() {
        let batch = batch();
        let mut toy = Toy { factors: (3.0, 1.0), ..Toy::new() };
        let spec = LossSpec::naive_accumulated_mean();
        toy.configure(&spec).unwrap();
        let observed = Observed::of(&mut toy, &batch).unwrap();
        let tomogram = recover(&basis(&batch), &observed.gradient, &observed.precision).unwrap();
        assert!(
            tomogram.is_explained() && tomogram.fault().is_none() && tomogram.condition < 100.0,
            "{tomogram}"
        );
        assert_weights(&tomogram, &spec, &batch, 3.0);
    }

    #[test]
    fn a_wrong_part_is_named_and_bends_nothing() {
        let batch = batch();
        for factor in [1.0 + 1e-6, 0.5, 0.0] {
            let mut toy = Toy { broken: Some(("first", factor)), ..Toy::new() };
            let observed = Observed::of(&mut toy, &batch).unwrap();
            let tomogram = recover(&basis(&batch), &observed.gradient, &observed.precision).unwrap();
            let names: Vec<_> = tomogram.unexplained.iter().map(|part| part.name.as_str()).collect();
            assert_eq!(names, ["first"], "{factor}: {tomogram}");
            assert!((tomogram.unexplained[0].share - 1.0).abs() < 1e-9);
            assert!(tomogram.fault().unwrap().contains("first (100 % of it"), "{tomogram}");
            assert_weights(&tomogram, &toy.spec, &batch, 1.0);
        }
    }

    #[test]
    fn a_gradient_of_something_else_is_explained_by_nothing() {
        let batch = batch();
        let observed = Observed::of(&mut Toy::new(), &batch).unwrap();
        let shifted = batch.map_sequences(|sequence| {
            let mut fields = lossproof_spec::SequenceFields::from(sequence.clone());
            fields.input_ids.rotate_left(1);
            fields.targets.clear();
            lossproof_spec::Sequence::from_fields(fields).unwrap()
        });
        let tomogram = recover(&basis(&shifted), &observed.gradient, &observed.precision).unwrap();
        assert_eq!(tomogram.unexplained.len(), 3, "{tomogram}");
        // Such weights are a fit, and their errors say so.
        assert!(tomogram.weights.iter().all(|weight| weight.error > 1e-3));
    }

    #[test]
    fn a_gradient_that_is_no_number_is_refused() {
        let batch = batch();
        let mut toy = Toy { factors: (f64::NAN, 1.0), ..Toy::new() };
        let observed = Observed::of(&mut toy, &batch).unwrap();
        let error = recover(&basis(&batch), &observed.gradient, &observed.precision).unwrap_err();
        assert!(matches!(error, TomographyError::NotFinite { .. }));
    }
}
