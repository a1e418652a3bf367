//! Where two runs part: the first event that differs, and what changed there.
//!
//! A loss that differs says little. What differs first says where to look: other samples, another window,
//! another rate. Where a window's loss and gradient are the same and the next loss is not, the update between
//! them changed: the rule, its moments, or what decays.

use crate::{Event, Update};
use std::fmt;

/// Where two runs part.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// The update, from 1, and its epoch, from 0.
    pub update: u64,
    /// The epoch, from 0.
    pub epoch: u32,
    /// What changed.
    pub change: Change,
}

/// What changed where two runs part.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Other samples, or the same in another order.
    Order,
    /// Another number of micro-batches.
    Window {
        /// Micro-batches of the first run's window.
        first: usize,
        /// Micro-batches of the second's.
        second: usize,
    },
    /// One run validates or ends where the other trains on.
    Length,
    /// Another number: its name, and what each run has.
    Number {
        /// Name of the number.
        what: Number,
        /// The first run's.
        first: f64,
        /// The second's.
        second: f64,
    },
    /// The loss differs although nothing did up to the gradient of the update before.
    UpdateBefore,
}

/// A number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Number {
    /// The loss of the first window, or of one whose update before was seen to be the same.
    Loss,
    /// The norm of the gradient.
    GradientNorm,
    /// The learning rate.
    LearningRate,
    /// What the gradient was multiplied with.
    ClipFactor,
    /// The loss that is tracked over an epoch.
    TrainingLoss,
    /// The loss of a validation.
    ValidationLoss,
}

/// The first place where two runs differ by more than `tolerance`, relative to the larger number. Order,
/// windows and learning rates are compared exactly.
#[must_use]
pub fn divergence(first: &[Event], second: &[Event], tolerance: f64) -> Option<Divergence> {
    let (mut update, mut epoch) = (0, 0);
    for index in 0..first.len().max(second.len()) {
        let change = match (first.get(index), second.get(index)) {
            (Some(Event::Update(a)), Some(Event::Update(b))) => {
                (update, epoch) = (a.update, a.epoch);
                between_updates(a, b, index > 0, tolerance)
            }
            (Some(Event::Epoch(a)), Some(Event::Epoch(b))) => number(
                &[
                    (Number::TrainingLoss, a.training_loss, b.training_loss),
                    (Number::ValidationLoss, a.validation.loss, b.validation.loss),
                ],
                tolerance,
            ),
            (
                Some(Event::Validation { validation: a, .. }),
                Some(Event::Validation { validation: b, .. }),
            ) => number(&[(Number::ValidationLoss, a.loss, b.loss)], tolerance),
            _ => Some(Change::Length),
        };
        if let Some(change) = change {
            return Some(Divergence { update, epoch, change });
        }
    }
    None
}

/// What differs between two windows and their updates, in the order in which one leads to the next.
fn between_updates(a: &Update, b: &Update, later: bool, tolerance: f64) -> Option<Change> {
    let samples = |update: &Update| -> Vec<Vec<usize>> {
        update.micro_batches.iter().map(|one| one.samples.concat()).collect()
    };
    let (of_a, of_b) = (samples(a), samples(b));
    if of_a.len() != of_b.len() {
        return Some(Change::Window { first: of_a.len(), second: of_b.len() });
    }
    if of_a != of_b {
        return Some(Change::Order);
    }
    if a.learning_rate.to_bits() != b.learning_rate.to_bits() {
        let (first, second) = (a.learning_rate, b.learning_rate);
        return Some(Change::Number { what: Number::LearningRate, first, second });
    }
    match number(&[(Number::Loss, a.loss, b.loss)], tolerance) {
        Some(_) if later => return Some(Change::UpdateBefore),
        Some(change) => return Some(change),
        None => {}
    }
    let numbers = [
        (Number::GradientNorm, a.grad_norm, b.grad_norm),
        (Number::ClipFactor, a.clip_factor, b.clip_factor),
    ];
    number(&numbers, tolerance)
}

/// The first of some numbers that differs.
fn number(numbers: &[(Number, f64, f64)], tolerance: f64) -> Option<Change> {
    for &(what, first, second) in numbers {
        let same = first.to_bits() == second.to_bits() || (first.is_nan() && second.is_nan());
        let near = (first - second).abs() <= tolerance * first.abs().max(second.abs());
        if !same && !near {
            return Some(Change::Number { what, first, second });
        }
    }
    None
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "update {} of epoch {}: ", self.update, self.epoch)?;
        match &self.change {
            Change::Order => f.write_str("other samples, or another order of them"),
            Change::Window { first, second } => {
                write!(f, "the window has {first} micro-batches in one run and {second} in the other")
            }
            Change::Length => f.write_str("one run trains on where the other validates or ends"),
            Change::UpdateBefore => f.write_str(
                "the loss differs, and nothing did up to the gradient of the update before: look at the update rule, its \
                 moments and what decays",
            ),
            Change::Number { what, first, second } => {
                let name = match what {
                    Number::Loss => "the loss",
                    Number::GradientNorm => "the norm of the gradient, at the same loss",
                    Number::LearningRate => "the learning rate",
                    Number::ClipFactor => "the factor of clipping, at the same gradient",
                    Number::TrainingLoss => "the tracked loss of the epoch, at the same losses",
                    Number::ValidationLoss => "the loss of the validation",
                };
                write!(f, "{name} is {first} in one run and {second} in the other, a factor of {}", second / first)
            }
        }
    }
}
