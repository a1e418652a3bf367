//! How well answers agree with the equations of a hypothesis, whatever their unknowns are.

use super::system::System;
use crate::half_digits::{NEGLIGIBLE, tolerance};
use lossproof_numerics::{ColumnSpace, vector};
use lossproof_spec::Dtype;

/// An answer with more of itself in its own explanation than this is one that no other call speaks of.
const FREE: f64 = 1.0 - 1e-6;

/// Roundings of the largest coordinate that one may be off by which cancels, as along random signs that are nearly all
/// alike the gradient of a bias in front of a layer norm does. Over a few hundred tokens four were seen.
const ROUNDINGS: f64 = 64.0;

/// How well one answer agrees with the equations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AnswerFit {
    /// The equations say nothing of it.
    Free,
    /// It is what follows from others.
    Holds,
    /// It is not, by so much of its size.
    Broken(f64),
}

/// How well the answers agree with the equations.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    /// How many numbers the equations leave open.
    pub(super) dimension: usize,
    /// By answer.
    pub(super) answers: Vec<AnswerFit>,
}

/// The answers of one kind to all calls: losses, or gradients.
pub(super) struct Answers {
    /// By call: its coordinates, as many as those of any other.
    pub(super) values: Vec<Vec<f64>>,
    /// By call: how large the answer is.
    pub(super) sizes: Vec<f64>,
    pub(super) dtype: Dtype,
    /// Whether they are losses: sums of token losses, none of which is zero or less.
    pub(super) losses: bool,
}

impl Answers {
    fn is_finite(&self, call: usize) -> bool {
        vector::is_finite(&self.values[call])
    }

    /// The equations that some of the calls make, and what is known of the others without one.
    ///
    /// Every equation is divided by the size of its answer.
    fn equations(&self, system: &System, calls: &[usize]) -> (Equations, Vec<AnswerFit>) {
        let mut fits = vec![AnswerFit::Free; self.values.len()];
        let mut equations = Equations::default();
        let usual = usual_size(&self.sizes);
        for &call in calls {
            let answer = &self.values[call];
            match (system.is_number(call), self.is_finite(call)) {
                (true, true)
                    if self.losses && answer[0] <= 0.0 && system.row(call).iter().any(|w| *w > 0.0) =>
                {
                    fits[call] = AnswerFit::Broken(1.0);
                }
                (true, true) => {
                    let size = if self.sizes[call] > 0.0 { self.sizes[call] } else { usual };
                    equations.rows.push(system.row(call).iter().map(|weight| weight / size).collect());
                    equations.rights.push(answer.iter().map(|value| value / size).collect());
                    equations.calls.push(call);
                }
                // The gradient of libtorch's mean over nothing is zero.
                (false, _) if answer.iter().all(|value| value.abs() <= 0.0) => {}
                (false, true) | (true, false) => fits[call] = AnswerFit::Broken(1.0),
                (false, false) => fits[call] = AnswerFit::Holds,
            }
        }
        (equations, fits)
    }

    /// Fits the answers to some of the calls. A coordinate is off when it is by more than half of the dtype's digits of
    /// its largest value, or of what is [`NEGLIGIBLE`] of the largest of all.
    fn fit_some(&self, system: &System, calls: &[usize]) -> Fit {
        let (equations, mut fits) = self.equations(system, calls);
        let Ok(space) = ColumnSpace::of(&equations.rows) else { return Fit { dimension: 0, answers: fits } };
        let apart = relative_rest(&space, &equations.rights, self.dtype);
        for ((index, call), apart) in equations.calls.into_iter().enumerate().zip(apart) {
            let apart = vector::largest(&apart);
            if apart > tolerance(self.dtype) {
                fits[call] = AnswerFit::Broken(apart);
            } else if space.leverage(index) < FREE {
                fits[call] = AnswerFit::Holds;
            }
        }
        Fit { dimension: space.dimension(), answers: fits }
    }

    /// Fits the answers to all calls.
    pub(super) fn fit(&self, system: &System) -> Fit {
        let all: Vec<usize> = (0..self.values.len()).collect();
        self.fit_some(system, &all)
    }

    /// By coordinate, whether it is off in any of some calls, all of which together make equations.
    pub(super) fn coordinates_off(&self, system: &System, calls: &[usize]) -> Vec<bool> {
        let (equations, _) = self.equations(system, calls);
        let Ok(space) = ColumnSpace::of(&equations.rows) else { return Vec::new() };
        let mut off = vec![false; equations.rights.first().map_or(0, Vec::len)];
        for apart in relative_rest(&space, &equations.rights, self.dtype) {
            for (off, apart) in off.iter_mut().zip(apart) {
                *off |= apart > tolerance(self.dtype);
            }
        }
        off
    }

    /// The calls whose answers do not follow from those to the calls before them, with how far off each is. A call
    /// that is off is left out of what later ones follow from.
    pub(super) fn surprises(&self, system: &System) -> Vec<(usize, f64)> {
        let (mut kept, mut surprises) = (Vec::new(), Vec::new());
        for call in 0..self.values.len() {
            kept.push(call);
            let broken = self.fit_some(system, &kept).answers.into_iter().filter_map(|fit| match fit {
                AnswerFit::Broken(apart) => Some(apart),
                AnswerFit::Free | AnswerFit::Holds => None,
            });
            if let Some(apart) = broken.max_by(f64::total_cmp) {
                kept.pop();
                surprises.push((call, apart));
            }
        }
        surprises
    }
}

/// Equations, the right sides of their coordinates, and the call that each comes from.
#[derive(Default)]
struct Equations {
    rows: Vec<Vec<f64>>,
    rights: Vec<Vec<f64>>,
    calls: Vec<usize>,
}

/// The median of the sizes that are none of zero.
fn usual_size(norms: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = norms.iter().copied().filter(|size| *size > 0.0 && size.is_finite()).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() / 2).copied().unwrap_or(1.0)
}

/// By equation and coordinate: what is outside the space, relative to the scale of that coordinate.
fn relative_rest(space: &ColumnSpace, rights: &[Vec<f64>], dtype: Dtype) -> Vec<Vec<f64>> {
    // A coordinate that cancels is the rounding of what the largest are made of.
    let rounding = ROUNDINGS * dtype.unit_roundoff() / tolerance(dtype);
    space.relative_outside(rights, rounding.max(1.0 / NEGLIGIBLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_size_is_that_of_answers_with_one() {
        assert_eq!(usual_size(&[0.0, 3.0, 5.0, 1.0, f64::NAN]).to_bits(), 3.0_f64.to_bits());
        assert_eq!(usual_size(&[]).to_bits(), 1.0_f64.to_bits());
    }
}
