//! A parameter's gradient beside the finite differences along the directions that move the parameter.

use super::{
    derivative::{Derivative, Direction, Part, norm},
    row::Measurement,
    semantics::Semantics,
};
use lossproof_laws::blocks::elements;
use lossproof_numerics::{Block, Plateau, Slope, exceeds, power};
use lossproof_spec::CompensatedSum;
use lossproof_subject::TensorSet;
use std::collections::BTreeMap;

/// How far below its bound the error of a derivative has to be that decides for several parameters.
const RESERVE: f64 = 8.0;

/// What derivatives say of a parameter's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Judgement {
    Contradicted,
    Undecided,
    Holds,
}

/// The derivatives along the directions that move one parameter, contracted with the token weights of a semantics.
pub(crate) struct Slopes<'a> {
    pub(crate) parameter: &'a Block,
    /// Each direction within the parameter, and the derivative that it has to account for.
    along: Vec<(&'a Direction, Plateau)>,
}

impl<'a> Slopes<'a> {
    /// Those of each parameter, by name. Where a direction moves several, what the gradients of the others account
    /// for is subtracted from its derivative.
    pub(crate) fn of(
        derivatives: &'a [Derivative],
        semantics: &Semantics,
        gradient: &TensorSet,
    ) -> Vec<Self> {
        let mut slopes: BTreeMap<&str, Self> = BTreeMap::new();
        for Derivative { parts, sweep } in derivatives {
            let whole = sweep.contract(&semantics.per_prediction);
            let mut inner = Vec::new();
            // Alone, a parameter accounts for all of it.
            for Part { parameter, direction } in parts.iter().filter(|_| parts.len() > 1) {
                inner.push(direction.dot(elements(gradient, &parameter.parameter)));
            }
            for (place, Part { parameter, direction }) in parts.iter().enumerate() {
                let others = inner.iter().enumerate().filter(|(other, _)| *other != place);
                let others: CompensatedSum = others.map(|(_, inner)| *inner).collect();
                let own = Plateau { value: whole.value - others.value(), ..whole };
                let new = || Self { parameter, along: Vec::new() };
                slopes.entry(&parameter.parameter).or_insert_with(new).along.push((direction, own));
            }
        }
        slopes.into_values().collect()
    }

    /// Holds the elements of the parameter's gradient to its derivatives. Of several directions one has to be
    /// strong enough; a coordinate has no other direction.
    pub(crate) fn measure(&self, gradient: impl Fn(usize) -> f64, noise: f64) -> Vec<Measurement> {
        let bound = Slope::bound() + noise;
        let mut measurements = Vec::new();
        for (direction, slope) in self.slopes(gradient) {
            if slope.scale == 0.0 && slope.difference.value.abs() <= slope.difference.uncertainty {
                continue;
            }
            if !slope.is_undecided(bound) {
                let (error, effect) = (slope.error(1.0), slope.effect());
                measurements.push(Measurement::Compared { error, bound, effect });
            } else if let Direction::Coordinate { index, .. } = direction {
                let at = format!("{}[{index}]", self.parameter.parameter);
                measurements.push(Measurement::Undecided { at });
            }
        }
        measurements
    }

    /// What the derivatives say of the parameter's gradient: it holds where none contradicts it, all resolve
    /// it, and one is strong enough to certify it.
    pub(crate) fn judge(&self, gradient: impl Fn(usize) -> f64, noise: f64) -> Judgement {
        let bound = Slope::bound() + noise;
        let (mut resolved, mut certified) = (true, false);
        for (_, slope) in self.slopes(gradient) {
            let error = slope.error(1.0);
            if slope.is_undecided(bound) {
                resolved = false;
            } else if exceeds(error, bound) {
                return Judgement::Contradicted;
            } else {
                certified |= power(bound, slope.effect(), error).is_finite();
                // What is left for one parameter has the errors of all of them in it. Where that is not far below the
                // bound, a direction of its own says more.
                resolved &= error <= bound / RESERVE;
            }
        }
        if resolved && certified { Judgement::Holds } else { Judgement::Undecided }
    }

    fn slopes(&self, gradient: impl Fn(usize) -> f64) -> impl Iterator<Item = (&'a Direction, Slope)> {
        let elements = self.parameter.len();
        let gradient_norm = norm((0..elements).map(&gradient));
        self.along.iter().map(move |&(direction, plateau)| {
            let inner = direction.dot(&gradient);
            (direction, Slope::new(inner, gradient_norm, direction.norm(), elements, plateau))
        })
    }
}
