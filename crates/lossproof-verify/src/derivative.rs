//! The derivative of a subject's token losses along one direction, and the direction.

use lossproof_numerics::{Block, Sweep};
use lossproof_spec::CompensatedSum;

/// The derivative of every token loss along one direction, within one parameter or through several at once.
pub(crate) struct Derivative {
    /// What it moves.
    pub(crate) parts: Vec<Part>,
    pub(crate) sweep: Sweep,
}

/// What a direction moves of one parameter.
pub(crate) struct Part {
    /// The whole of the parameter.
    pub(crate) parameter: Block,
    pub(crate) direction: Direction,
}

/// A direction within one parameter.
pub(crate) enum Direction {
    Coordinate { index: usize, scale: f64 },
    Dense(Vec<f64>),
}

impl Direction {
    /// `values + step·direction`.
    pub(crate) fn displaced(&self, values: &[f64], step: f64) -> Vec<f64> {
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

    pub(crate) fn amplify(&mut self, factor: f64) {
        match self {
            Self::Coordinate { scale, .. } => *scale *= factor,
            Self::Dense(direction) => direction.iter_mut().for_each(|v| *v *= factor),
        }
    }

    /// The inner product with a gradient.
    pub(crate) fn dot(&self, gradient: impl Fn(usize) -> f64) -> f64 {
        match self {
            Self::Coordinate { index, scale } => gradient(*index) * scale,
            Self::Dense(direction) => {
                let terms = direction.iter().enumerate().map(|(index, v)| v * gradient(index));
                terms.collect::<CompensatedSum>().value()
            }
        }
    }

    pub(crate) fn norm(&self) -> f64 {
        match self {
            Self::Coordinate { scale, .. } => scale.abs(),
            Self::Dense(direction) => norm(direction.iter().copied()),
        }
    }
}

pub(crate) fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).collect::<CompensatedSum>().value().sqrt()
}
