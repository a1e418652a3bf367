//! Finite differences of the truth's forward pass along directions through all parameters at once.

use super::{
    Progress, VerifyError,
    evidence::{evaluator, loader},
    report::{BoundFrom, Row, Statement},
    row::RowBuilder,
    semantics::Semantics,
};
use crate::{Subject, TensorSet};
use lossproof_numerics::{Sweep, directional_bound, rademacher, sweep};
use lossproof_spec::{CompensatedSum, GlobalBatch};

/// Number of directions.
const DIRECTIONS: u64 = 3;

/// First step of a sweep: each parameter changes by 0.4 % of its tensor's size, all at once.
const FIRST_STEP: f64 = 0.004;

/// How often the step may be halved.
const HALVINGS: usize = 4;

/// The derivatives of all token losses along random directions through all parameters, each at the scale of its tensor.
/// The parameters are left displaced: load them again.
pub(super) fn differentiate(
    truth: &mut dyn Subject,
    batch: &GlobalBatch,
    parameters: &TensorSet,
    seed: u64,
    progress: &mut Progress<'_>,
) -> Result<Vec<Sweep>, VerifyError> {
    let name = truth.info().name;
    let mut sweeps = Vec::new();
    for direction in 0..DIRECTIONS {
        progress(
            &format!("{name} f64: finite differences of the forward"),
            usize::try_from(direction).unwrap_or(0),
            usize::try_from(DIRECTIONS).unwrap_or(0),
        );
        sweeps.push(sweep(FIRST_STEP, HALVINGS, |step| -> Result<Vec<f64>, VerifyError> {
            for (stream, (name, tensor)) in (0..).zip(parameters) {
                let mut values = tensor.to_f64();
                let along = rademacher(seed.wrapping_add(direction), stream, &values);
                for (value, v) in values.iter_mut().zip(along) {
                    *value += step * v;
                }
                loader(truth)?.set(name, &values)?;
            }
            Ok(evaluator(truth)?.evaluate(batch)?)
        })?);
    }
    Ok(sweeps)
}

/// Holds the truth's gradient to the derivatives of its own forward pass.
pub(super) fn row(
    name: &str,
    sweeps: &[Sweep],
    meaning: &Semantics,
    gradient: &TensorSet,
    parameters: &TensorSet,
    seed: u64,
) -> Row {
    let text = "∇ = finite differences, 3 global directions".to_owned();
    let mut row =
        RowBuilder::new(Statement::FiniteDifferences, Some(meaning.name), name, text, BoundFrom::Plateau);
    let bound = directional_bound(1.0, 0.0, 0.0, 1);
    for (direction, sweep) in (0_u64..).zip(sweeps) {
        let (mut inner, mut gradient_square, mut direction_square) =
            (CompensatedSum::default(), CompensatedSum::default(), CompensatedSum::default());
        let mut elements = 0;
        for (stream, (name, tensor)) in (0..).zip(parameters) {
            let along = rademacher(seed.wrapping_add(direction), stream, &tensor.to_f64());
            let of_tensor = gradient.get(name);
            // Partial sums of a thousand terms: compensated element by element this would dominate the run.
            for (start, chunk) in along.chunks(1024).enumerate() {
                let value = |offset: usize| of_tensor.map_or(f64::NAN, |g| g.get(start * 1024 + offset));
                let sum = |term: &dyn Fn(usize, f64) -> f64| chunk.iter().enumerate().map(|(i, &v)| term(i, v)).sum();
                inner.add(sum(&|i, v| v * value(i)));
                gradient_square.add(sum(&|i, _| value(i).powi(2)));
                direction_square.add(sum(&|_, v| v * v));
            }
            elements += along.len();
        }
        let plateau = sweep.contract(&meaning.per_prediction);
        let inner = inner.value();
        let absolute =
            directional_bound(inner, gradient_square.value().sqrt(), direction_square.value().sqrt(), elements);
        let scale = absolute / bound;
        let error = |factor: f64| (factor * inner - plateau.value).abs() / scale;
        if plateau.uncertainty / scale > bound && error(1.0) <= plateau.uncertainty / scale {
            row.uncertain();
            continue;
        }
        row.compare(|| format!("direction {direction}"), bound, inner.abs() / scale, error);
    }
    row.end_unit();
    row.finish()
}
