//! Finite differences of the truth's forward pass along directions through all parameters at once.

use super::{
    Progress, VerifyError,
    evidence::{evaluator, loader},
    report::{BoundFrom, Row, Statement},
    row::RowBuilder,
    semantics::Semantics,
};
use crate::{Subject, Tensor, TensorSet, TensorValues};
use lossproof_numerics::{Rademacher, Sweep, directional_bound, sweep};
use lossproof_spec::{CompensatedSum, GlobalBatch};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Number of directions.
const DIRECTIONS: usize = 3;

/// First step of a sweep: each parameter changes by 0.1 % of its tensor's size, all at once.
const FIRST_STEP: f64 = 0.001;

/// How often the step is halved: twice gives two estimates, whose difference is the uncertainty; each more costs
/// two forward passes of the whole model in f64.
const HALVINGS: usize = 2;

/// The derivatives of all token losses along one random direction through all parameters.
pub(super) struct Derivative {
    /// The direction within each parameter, at the scale of its values.
    direction: BTreeMap<String, Rademacher>,
    sweep: Sweep,
}

/// Differentiates the truth's token losses. The parameters are left displaced: reset it afterwards.
pub(super) fn differentiate(
    truth: &mut dyn Subject,
    batch: &GlobalBatch,
    parameters: &TensorSet,
    seed: u64,
    progress: &mut Progress<'_>,
) -> Result<Vec<Derivative>, VerifyError> {
    let stage = format!("{} f64: finite differences of the forward", truth.info().name);
    let mut derivatives = Vec::new();
    // Reused from tensor to tensor: touching fresh memory costs more than the arithmetic.
    let mut values = Vec::new();
    for number in 0..DIRECTIONS as u64 {
        progress(&stage, derivatives.len(), DIRECTIONS);
        let within = |(stream, (name, tensor)): (u64, (&String, &Tensor))| {
            let seed = seed.wrapping_add(number);
            let direction = match tensor.values() {
                TensorValues::F32(values) => Rademacher::new(seed, stream, values),
                TensorValues::F64(values) => Rademacher::new(seed, stream, values),
            };
            (name.clone(), direction)
        };
        let direction: BTreeMap<_, _> = (0..).zip(parameters).map(within).collect();
        let sweep = sweep(FIRST_STEP, HALVINGS, |step| -> Result<Vec<f64>, VerifyError> {
            for ((name, tensor), along) in parameters.iter().zip(direction.values()) {
                tensor.copy_to_f64(&mut values);
                along.displace(&mut values, step);
                loader(truth)?.set(name, &values)?;
            }
            Ok(evaluator(truth)?.evaluate(batch)?)
        })?;
        derivatives.push(Derivative { direction, sweep });
    }
    Ok(derivatives)
}

/// Holds the truth's gradient to the derivatives of its own forward pass.
pub(super) fn row(name: &str, derivatives: &[Derivative], meaning: &Semantics, gradient: &TensorSet) -> Row {
    let text = "∇ = finite differences, 3 global directions".to_owned();
    let mut row =
        RowBuilder::new(Statement::FiniteDifferences, Some(meaning.name), name, text, BoundFrom::Plateau);
    let bound = directional_bound(1.0, 0.0, 0.0, 1);
    let gradient_norm = gradient.values().map(square).collect::<CompensatedSum>().value().sqrt();
    for (number, Derivative { direction, sweep }) in derivatives.iter().enumerate() {
        let (mut inner, mut direction_square) = (CompensatedSum::default(), CompensatedSum::default());
        let mut elements = 0;
        for (name, along) in direction {
            let of_tensor = gradient.get(name);
            inner.add(of_tensor.map_or(f64::NAN, |tensor| match tensor.values() {
                TensorValues::F32(values) => along.dot(values),
                TensorValues::F64(values) => along.dot(values),
            }));
            let size = of_tensor.map_or(0, Tensor::elements);
            direction_square.add(along.scale().powi(2) * size as f64);
            elements += size;
        }
        let plateau = sweep.contract(&meaning.per_prediction);
        let inner = inner.value();
        let direction_norm = direction_square.value().sqrt();
        let scale = directional_bound(inner, gradient_norm, direction_norm, elements) / bound;
        let error = |factor: f64| (factor * inner - plateau.value).abs() / scale;
        // Less certain than the bound, a direction neither certifies nor convicts: another one has to.
        if plateau.uncertainty / scale > bound && error(1.0) <= plateau.uncertainty / scale {
            continue;
        }
        row.compare(|| format!("direction {number}"), bound, inner.abs() / scale, error);
    }
    row.end_unit();
    row.finish()
}

/// Squared norm of a tensor.
fn square(tensor: &Tensor) -> f64 {
    fn sum<T: Copy + Into<f64> + Sync>(values: &[T]) -> f64 {
        // Plain sums of a thousand terms, the sum of those compensated.
        let squares = |values: &[T]| -> f64 { values.iter().map(|&value| value.into().powi(2)).sum() };
        let sums: Vec<f64> = values.par_chunks(1024).map(squares).collect();
        sums.into_iter().collect::<CompensatedSum>().value()
    }
    match tensor.values() {
        TensorValues::F32(values) => sum(values),
        TensorValues::F64(values) => sum(values),
    }
}
