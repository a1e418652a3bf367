//! From a basis and a gradient to the weights.

use super::{
    TomographyError,
    basis::Basis,
    part_equations::{Misfit, PartEquations},
    precision::Precision,
    robust::majority,
    tomogram::{Tomogram, Unexplained, weights},
};
use lossproof_numerics::{Solution, norm};
use lossproof_subject::TensorSet;
use std::collections::BTreeMap;

/// Recovers the weights that a gradient gives the unknowns of a basis: `min_w ‖Σ_t w_t·∇ℓ_t − g‖`.
///
/// When rounding and noise explain the residual of every part, all of them enter. Otherwise the parts are
/// fitted by least absolute deviation, which a minority of wrong parts does not bend; the weights are those
/// of the parts that are then explained, if these are most parts and determine the weights, and the others
/// are [`unexplained`](Tomogram::unexplained). A backward pass that is wrong in a few tensors therefore still
/// shows its weights.
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

/// Recovers weights as [`recover`] does, where the gradient of a parameter has an error of its own, by the
/// parameter's name.
pub(super) fn recover_above(
    basis: &Basis,
    gradient: &TensorSet,
    precision: &Precision,
    floors: &BTreeMap<String, f64>,
) -> Result<Tomogram, TomographyError> {
    let equations = PartEquations::new(basis, gradient, precision)?.above(floors);
    let all: Vec<usize> = (0..basis.parts().len()).collect();
    recover_from(&equations, &all)
}

/// Recovers the weights from some parts.
pub(super) fn recover_from(
    equations: &PartEquations<'_>,
    parts: &[usize],
) -> Result<Tomogram, TomographyError> {
    let mut trusted = parts.to_vec();
    let mut solution = equations.solve(&trusted, 0.0)?;
    let mut misfits = equations.misfits(parts, &solution.closest);
    let mut is_fit = false;
    if !misfits.iter().all(Misfit::explained) {
        if let Some((explained, by_explained)) = majority(equations, parts, &solution)? {
            (trusted, solution) = (explained, by_explained);
        } else {
            // A fit that is none is as uncertain as its residual is large.
            is_fit = true;
            solution = equations.solve(&trusted, solution.residual)?;
        }
        misfits = equations.misfits(parts, &solution.closest);
    }
    let explained = |misfits: &[Misfit]| misfits.iter().all(Misfit::explained);
    let is_open = explained(&misfits) && !explained(&equations.misfits(parts, &solution.values));
    Ok(Tomogram { is_fit, is_open, ..tomogram(equations, &trusted, solution, &misfits) })
}

/// The tomogram of a solution that was recovered from the trusted parts.
fn tomogram(
    equations: &PartEquations<'_>,
    trusted: &[usize],
    solution: Solution,
    misfits: &[Misfit],
) -> Tomogram {
    let basis = equations.basis;
    let whole = norm(&misfits.iter().map(|misfit| misfit.residual).collect::<Vec<_>>());
    // Scale and bound of every part are those of its whole parameter.
    let parameter = |misfit: &Misfit| basis.parts()[misfit.part].parameter.as_str();
    let by_parameter: BTreeMap<&str, &Misfit> =
        misfits.iter().map(|misfit| (parameter(misfit), misfit)).collect();
    let scale = norm(&by_parameter.values().map(|misfit| misfit.scale).collect::<Vec<_>>());
    let bound = norm(&by_parameter.values().map(|misfit| misfit.bound).collect::<Vec<_>>());
    let unexplained = misfits.iter().filter(|misfit| !misfit.explained()).map(|misfit| Unexplained {
        name: basis.parts()[misfit.part].name.clone(),
        residual: relative(misfit.residual, misfit.scale),
        bound: relative(misfit.bound, misfit.scale),
        share: (misfit.residual / whole).powi(2),
    });
    let mut unexplained: Vec<_> = unexplained.collect();
    unexplained.sort_by(|a, b| b.share.total_cmp(&a.share));
    let tomogram = weights(solution, basis.names());
    Tomogram {
        equations: trusted.iter().map(|&part| equations.of_part[part].equations()).sum(),
        residual: relative(whole, scale),
        bound: relative(bound, scale),
        unexplained,
        undetermined: basis.undetermined().to_vec(),
        ..tomogram.with_common_error(basis.common_error())
    }
}

fn relative(value: f64, scale: f64) -> f64 {
    if value > 0.0 { value / scale } else { 0.0 }
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
            assert!(error <= weight.error && weight.error < 1e-10, "{weight:?}, not {truth}");
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
            "{tomogram:?}"
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
            assert_eq!(names, ["first"], "{factor}: {tomogram:?}");
            assert!((tomogram.unexplained[0].share - 1.0).abs() < 1e-9);
            assert!(tomogram.fault().unwrap().contains("first (100 % of it"), "{tomogram:?}");
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
        assert_eq!(tomogram.unexplained.len(), 3, "{tomogram:?}");
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
