//! What of a law is broken, held to what is declared to be: which units fail, and by what factor.
//!
//! A declaration that names its law alone hides every other defect that the law would show. Its units are the
//! names of what the law certifies, such as a parameter for its gradient, whichever of its rows a case looks
//! at; where something is a multiple of what it should be, that multiple tells one defect in it from another.

use super::{Outcome, Replay};
use lossproof_numerics::Violation;
use std::{collections::BTreeMap, fmt};

/// The units that are declared to fail, each with its ratio on the declared case, where it is declared.
pub(super) type Units = BTreeMap<String, Option<f64>>;

/// How far a ratio may be from the declared one, relative to that.
const TOLERANCE: f64 = 0.05;

/// A ratio that differs from another by less than this does not differ: some are zero but for rounding.
const RESOLUTION: f64 = 1e-3;

/// The units of a law that failed on a case, each with the comparison that was furthest outside its bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Broken(BTreeMap<String, Violation>);

impl Broken {
    /// Of violations, the worst first.
    #[must_use]
    pub fn of(violations: &[Violation]) -> Self {
        let mut worst = BTreeMap::new();
        for violation in violations {
            worst.entry(without_rows(&violation.unit).to_owned()).or_insert_with(|| violation.clone());
        }
        Self(worst)
    }

    /// The units, in the order of their names.
    pub fn units(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn ratio(&self, unit: &str) -> Option<f64> {
        self.0.get(unit)?.ratio
    }

    /// What to declare of these units on the case they failed on.
    pub(super) fn declaration(&self) -> Units {
        self.0.iter().map(|(unit, violation)| (unit.clone(), lasting_ratio(violation))).collect()
    }
}

/// The parameter of a block of rows, which hang on the lengths of a case's sequences.
fn without_rows(unit: &str) -> &str {
    unit.split_once("[rows ").map_or(unit, |(parameter, _)| parameter)
}

/// How a ratio may differ from one that is declared.
fn tolerance(declared: f64) -> f64 {
    (TOLERANCE * declared.abs()).max(RESOLUTION)
}

/// The ratio to three digits, where every machine finds it: one to what is zero but for rounding is chance.
///
/// With `e = |x − y|/s` outside its bound `b`, both `x` and `y` are known to `b·s`, and `x/y` to
/// `(1 + |x/y|)·b·s/|y| = (1 + |x/y|)·|x/y − 1|·b/e`.
fn lasting_ratio(violation: &Violation) -> Option<f64> {
    let Violation { error, bound, ratio, .. } = violation;
    let ratio = (*ratio)?;
    let unknown = (1.0 + ratio.abs()) * (ratio - 1.0).abs() * bound / error;
    // Not so when it is no number, either.
    let lasts = unknown <= tolerance(ratio) / 5.0;
    let rounded = if ratio.abs() < RESOLUTION { 0.0 } else { format!("{ratio:.2e}").parse().ok()? };
    lasts.then_some(rounded)
}

/// In what a run differs from the declaration of a law whose declared case still shows what is declared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// Units that failed and are not declared to.
    pub(super) undeclared: Vec<String>,
    /// Units that are another multiple on the declared case than is declared, or none.
    altered: Vec<Altered>,
    /// Units that are declared to fail and no longer do.
    pub(super) gone: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Altered {
    unit: String,
    declared: f64,
    found: Option<f64>,
}

impl Difference {
    pub(super) fn of(declared: &Units, outcome: &Outcome) -> Self {
        let mut difference = Self::default();
        let on_declared = match &outcome.replay {
            Some(Replay::Fails(broken)) => Some(broken),
            _ => None,
        };
        for unit in on_declared.into_iter().chain([&outcome.broken]).flat_map(Broken::units) {
            if !declared.contains_key(unit) && !difference.undeclared.iter().any(|known| known == unit) {
                difference.undeclared.push(unit.to_owned());
            }
        }
        // Where the declared case shows an error, nothing says what else fails.
        let Some(on_declared) = on_declared else { return difference };
        for (unit, ratio) in declared {
            if !on_declared.0.contains_key(unit) {
                if !outcome.broken.0.contains_key(unit) {
                    difference.gone.push(unit.clone());
                }
                continue;
            }
            let found = on_declared.ratio(unit);
            if let Some(declared) = *ratio
                && !found.is_some_and(|found| (found - declared).abs() <= tolerance(declared))
            {
                difference.altered.push(Altered { unit: unit.clone(), declared, found });
            }
        }
        difference
    }

    /// Whether the run showed what is declared.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it showed a failure that is not declared.
    pub(super) fn is_new(&self) -> bool {
        !self.undeclared.is_empty() || !self.altered.is_empty()
    }

    /// What is to be declared instead.
    pub(super) fn settle(&self, declared: &Units, outcome: &Outcome) -> Units {
        let mut settled = declared.clone();
        settled.retain(|unit, _| !self.gone.contains(unit));
        for unit in outcome.broken.units() {
            settled.entry(unit.to_owned()).or_default();
        }
        if let Some(Replay::Fails(broken)) = &outcome.replay {
            settled.extend(broken.declaration());
        }
        settled
    }
}

/// What differs, in words.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.undeclared.is_empty() {
            parts.push(format!("{} not declared to fail, and failed", are(&self.undeclared)));
        }
        for Altered { unit, declared, found } in &self.altered {
            let is = match found {
                Some(found) => format!("{found:.3} times"),
                None => "no multiple of".to_owned(),
            };
            parts.push(format!(
                "`{unit}` is {is} what it should be, and declared to be {declared} times that"
            ));
        }
        if !self.gone.is_empty() {
            parts.push(format!("{} declared to fail, and no longer did", are(&self.gone)));
        }
        f.write_str(&parts.join("; "))
    }
}

fn are(units: &[String]) -> String {
    let quoted: Vec<_> = units.iter().map(|unit| format!("`{unit}`")).collect();
    format!("{} {}", quoted.join(", "), if units.len() == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests;
