//! Whether the weights of the reported loss are those that are due: the gradient's, or those of another log
//! policy that is declared.

use super::{Tomogram, Weight};
use crate::inference::{logged_by, logged_by_one_of};
use lossproof_subject::LogPolicy;
use std::fmt;

/// Two sets of weights of one trainer on one layout: what it logs is not what it optimises, or not what it
/// declares to log.
#[derive(Clone, Debug, PartialEq)]
pub struct Disagreement {
    /// The weights that differ by more than their errors.
    pub weights: Vec<Differing>,
    /// How many weights were compared.
    pub compared: usize,
    /// The log policy that is declared: by [`LogPolicy::Window`] the weights of the gradient are due.
    pub declared: LogPolicy,
    /// The log policies whose weights the logged ones may be.
    pub found: Vec<LogPolicy>,
}

/// A weight that is another in the reported loss than it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Differing {
    /// What it is the weight of.
    pub name: String,
    /// In the gradient, or by the log policy that is declared, where that is not [`LogPolicy::Window`].
    pub due: f64,
    /// In the reported loss.
    pub logged: f64,
}

/// Compares the weights in the reported loss with those in the gradient, in the order of the unknowns, or,
/// where another log policy than [`LogPolicy::Window`] is declared, with those of that policy; `None` when
/// none differ by more than their errors. Weights of a group are not compared.
#[must_use]
pub fn disagreement(optimised: &Tomogram, logged: &Tomogram) -> Option<Disagreement> {
    let policy = logged.policy.as_ref();
    let declared = policy.map_or(LogPolicy::Window, |policy| policy.comparison.declared);
    let due: Vec<Option<(f64, f64)>> = match policy {
        Some(policy) if declared != LogPolicy::Window => {
            policy.due.iter().map(|due| Some((*due, 0.0))).collect()
        }
        _ => optimised.weights.iter().map(determined).collect(),
    };
    let mut compared = 0;
    let mut weights = Vec::new();
    for (weight, due) in logged.weights.iter().zip(due) {
        let (Some((logged, error)), Some((due, due_error))) = (determined(weight), due) else { continue };
        compared += 1;
        let apart = (due - logged).abs();
        if apart.is_nan() || apart > error + due_error {
            weights.push(Differing { name: weight.name.clone(), due, logged });
        }
    }
    let found = policy.map_or_else(Vec::new, |policy| policy.comparison.found.clone());
    (!weights.is_empty()).then_some(Disagreement { weights, compared, declared, found })
}

/// The value and the error of a weight that no group leaves open.
fn determined(weight: &Weight) -> Option<(f64, f64)> {
    weight.group.is_none().then_some((weight.value, weight.error))
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weights, compared, declared, found } = self;
        let by = if *declared == LogPolicy::Window {
            f.write_str("it logs one loss and optimises another")?;
            "in the gradient"
        } else {
            write!(f, "it declares to log {}, and logs another loss", logged_by(*declared))?;
            "by what it declares"
        };
        write!(f, ": {} of {compared} weights differ", weights.len())?;
        let apart = |differing: &Differing| (differing.due - differing.logged).abs();
        if let Some(Differing { name, due, logged }) =
            weights.iter().max_by(|a, b| apart(a).total_cmp(&apart(b)))
        {
            write!(f, "; {name} weighs {due:.6} {by} and {logged:.6} in the reported loss")?;
        }
        if !found.is_empty() {
            write!(f, "; what it logs is {}", logged_by_one_of(found))?;
        }
        Ok(())
    }
}
