//! Finite differences of a subject's own forward pass, one derivative per token.

use super::{
    VerifyError,
    evidence::{evaluator, loader},
    row::RowBuilder,
    semantics::Semantics,
};
use lossproof_numerics::{FIRST_STEP, HALVINGS, Slope, Sweep, rademacher, sweep};
use lossproof_spec::{CompensatedSum, GlobalBatch};
use lossproof_subject::{Subject, TensorSet};

/// Which directions finite differences are taken along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    /// Every coordinate of every parameter. For models with a few thousand parameters.
    EveryCoordinate,
    /// Per parameter this many random ones, and the direction of its gradient.
    PerTensor(usize),
}

/// The derivative of every token loss along one direction within one parameter.
pub(crate) struct Derivative {
    parameter: String,
    label: String,
    direction: Direction,
    sweep: Sweep,
}

/// A direction within one parameter.
enum Direction {
    Coordinate { index: usize, scale: f64 },
    Dense(Vec<f64>),
}

impl Direction {
    /// `values + step·direction`.
    fn displaced(&self, values: &[f64], step: f64) -> Vec<f64> {
        match self {
            Self::Coordinate { index, scale } => {
                let mut displaced = values.to_vec();
                displaced[*index] += step * scale;
                displaced
            }
            Self::Dense(direction) => {
                values.iter().zip(direction).map(|(value, v)| value + step * v).collect()
            }
        }
    }

    fn dot(&self, gradient: &lossproof_subject::Tensor) -> f64 {
        match self {
            Self::Coordinate { index, scale } => gradient.get(*index) * scale,
            Self::Dense(direction) => direction
                .iter()
                .enumerate()
                .map(|(i, v)| v * gradient.get(i))
                .collect::<CompensatedSum>()
                .value(),
        }
    }

    fn norm(&self) -> f64 {
        match self {
            Self::Coordinate { scale, .. } => scale.abs(),
            Self::Dense(direction) => norm(direction.iter().copied()),
        }
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).collect::<CompensatedSum>().value().sqrt()
}

/// Differentiates the subject's token losses at `parameters`, which are in force again afterwards.
pub(crate) fn differentiate(
    subject: &mut dyn Subject,
    batch: &GlobalBatch,
    parameters: &TensorSet,
    gradient_of_sum: &TensorSet,
    directions: Directions,
    seed: u64,
    mut tick: impl FnMut(),
) -> Result<Vec<Derivative>, VerifyError> {
    let mut derivatives = Vec::new();
    for (stream, (name, tensor)) in (0_u64..).zip(parameters) {
        let values = tensor.to_f64();
        let random = |k: u64| rademacher(seed.wrapping_add(k), stream, &values);
        let mut along: Vec<(String, Direction)> = match directions {
            Directions::EveryCoordinate => {
                let scale = random(0).first().map_or(1.0, |v| v.abs());
                let coordinate = |index| (format!("{name}[{index}]"), Direction::Coordinate { index, scale });
                (0..values.len()).map(coordinate).collect()
            }
            Directions::PerTensor(count) => {
                (0..count as u64).map(|k| (format!("{name} along ±1"), Direction::Dense(random(k)))).collect()
            }
        };
        if let (Directions::PerTensor(_), Some(gradient)) = (directions, gradient_of_sum.get(name)) {
            along.push((format!("{name} along its gradient"), gradient_direction(gradient, &random(0))));
        }
        for (label, direction) in along {
            let sweep = sweep(FIRST_STEP, HALVINGS, |step| -> Result<Vec<f64>, VerifyError> {
                loader(subject)?.set(name, &direction.displaced(&values, step))?;
                Ok(evaluator(subject)?.evaluate(batch)?)
            })?;
            derivatives.push(Derivative { parameter: name.clone(), label, direction, sweep });
        }
        loader(subject)?.set(name, &values)?;
        tick();
    }
    Ok(derivatives)
}

/// The gradient, scaled to the root-mean-square element of `like`: all its elements move together, so the loss changes
/// far more per step than along random signs, and a step of the same size per element would leave the linear range.
fn gradient_direction(gradient: &lossproof_subject::Tensor, like: &[f64]) -> Direction {
    let own = norm((0..gradient.elements()).map(|i| gradient.get(i)));
    let rms = norm(like.iter().copied()) / (like.len() as f64).sqrt();
    let factor = if own > 0.0 { rms / own } else { 0.0 };
    Direction::Dense((0..gradient.elements()).map(|i| factor * gradient.get(i)).collect())
}

/// Holds a gradient to the derivatives of its own forward pass, contracted with the semantics' token weights.
pub(crate) fn compare(
    row: &mut RowBuilder,
    derivatives: &[Derivative],
    semantics: &Semantics,
    gradient: &TensorSet,
    noise: f64,
) {
    let relative_bound = Slope::bound() + noise;
    for of_parameter in derivatives.chunk_by(|a, b| a.parameter == b.parameter) {
        let Some(tensor) = of_parameter.first().and_then(|first| gradient.get(&first.parameter)) else {
            row.hold(|| "a gradient that was not handed over".to_owned(), f64::INFINITY, relative_bound);
            continue;
        };
        let gradient_norm = norm((0..tensor.elements()).map(|i| tensor.get(i)));
        for derivative in of_parameter {
            let plateau = derivative.sweep.contract(&semantics.per_prediction);
            let inner = derivative.direction.dot(tensor);
            let elements = tensor.elements();
            let slope = Slope::new(inner, gradient_norm, derivative.direction.norm(), elements, plateau);
            if slope.scale == 0.0 && plateau.value.abs() <= plateau.uncertainty {
                continue;
            }
            if slope.is_undecided(relative_bound) {
                // A coordinate has no other direction.
                if matches!(derivative.direction, Direction::Coordinate { .. }) {
                    row.uncertain();
                }
                continue;
            }
            row.compare(|| derivative.label.clone(), relative_bound, slope.effect(), |f| slope.error(f));
        }
        row.end_unit();
    }
}
