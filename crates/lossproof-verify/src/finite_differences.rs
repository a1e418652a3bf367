//! Finite differences of a subject's evaluated token losses, one derivative per token.

use super::{
    VerifyError,
    capability::{evaluator, loader},
    row::Measurement,
    semantics::Semantics,
};
use lossproof_numerics::{Block, FIRST_STEP, HALVINGS, Plateau, Slope, Sweep, rademacher, sweep};
use lossproof_spec::{CompensatedSum, GlobalBatch};
use lossproof_subject::{Subject, Tensor, TensorSet};

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
    /// The whole of the parameter.
    parameter: Block,
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

    /// The inner product with a gradient.
    fn dot(&self, gradient: impl Fn(usize) -> f64) -> f64 {
        match self {
            Self::Coordinate { index, scale } => gradient(*index) * scale,
            Self::Dense(direction) => {
                let terms = direction.iter().enumerate().map(|(index, v)| v * gradient(index));
                terms.collect::<CompensatedSum>().value()
            }
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
        let mut along: Vec<Direction> = match directions {
            Directions::EveryCoordinate => {
                let scale = random(0).first().map_or(1.0, |v| v.abs());
                (0..values.len()).map(|index| Direction::Coordinate { index, scale }).collect()
            }
            Directions::PerTensor(count) => (0..count as u64).map(|k| Direction::Dense(random(k))).collect(),
        };
        if let (Directions::PerTensor(_), Some(gradient)) = (directions, gradient_of_sum.get(name)) {
            along.push(gradient_direction(gradient, &random(0)));
        }
        for direction in along {
            let sweep = sweep(FIRST_STEP, HALVINGS, |step| -> Result<Vec<f64>, VerifyError> {
                loader(subject)?.set(name, &direction.displaced(&values, step))?;
                Ok(evaluator(subject)?.evaluate(batch)?)
            })?;
            derivatives.push(Derivative { parameter: Block::whole(name, values.len()), direction, sweep });
        }
        loader(subject)?.set(name, &values)?;
        tick();
    }
    Ok(derivatives)
}

/// The gradient, scaled to the root-mean-square element of `like`: all its elements move together, so the
/// loss changes far more per step than along random signs, and a step of the same size per element would
/// leave the linear range.
fn gradient_direction(gradient: &Tensor, like: &[f64]) -> Direction {
    let own = norm((0..gradient.elements()).map(|i| gradient.get(i)));
    let rms = norm(like.iter().copied()) / (like.len() as f64).sqrt();
    let factor = if own > 0.0 { rms / own } else { 0.0 };
    Direction::Dense((0..gradient.elements()).map(|i| factor * gradient.get(i)).collect())
}

/// The derivatives along all directions within one parameter, contracted with the token weights of a
/// semantics.
pub(crate) struct Slopes<'a> {
    derivatives: &'a [Derivative],
    plateaus: Vec<Plateau>,
}

impl<'a> Slopes<'a> {
    /// One for each parameter.
    pub(crate) fn of(
        derivatives: &'a [Derivative],
        semantics: &Semantics,
    ) -> impl Iterator<Item = (&'a Block, Self)> {
        derivatives.chunk_by(|one, next| one.parameter == next.parameter).map(|derivatives| {
            let contracted = |derivative: &Derivative| derivative.sweep.contract(&semantics.per_prediction);
            let plateaus = derivatives.iter().map(contracted).collect();
            (&derivatives[0].parameter, Self { derivatives, plateaus })
        })
    }

    /// Holds the elements of the parameter's gradient to its derivatives. Of several directions one has to be
    /// strong enough; a coordinate has no other direction.
    pub(crate) fn measure(&self, gradient: impl Fn(usize) -> f64, noise: f64) -> Vec<Measurement> {
        let bound = Slope::bound() + noise;
        let elements = self.derivatives[0].parameter.len();
        let gradient_norm = norm((0..elements).map(&gradient));
        let mut measurements = Vec::new();
        for (derivative, &plateau) in self.derivatives.iter().zip(&self.plateaus) {
            let inner = derivative.direction.dot(&gradient);
            let slope = Slope::new(inner, gradient_norm, derivative.direction.norm(), elements, plateau);
            if slope.scale == 0.0 && plateau.value.abs() <= plateau.uncertainty {
                continue;
            }
            if !slope.is_undecided(bound) {
                let (error, effect) = (slope.error(1.0), slope.effect());
                measurements.push(Measurement::Compared { error, bound, effect });
            } else if let Direction::Coordinate { index, .. } = derivative.direction {
                let at = format!("{}[{index}]", derivative.parameter.parameter);
                measurements.push(Measurement::Undecided { at });
            }
        }
        measurements
    }
}
