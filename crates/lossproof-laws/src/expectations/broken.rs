//! What of a law is broken, held to what is declared to be: which units fail, and how far they are off.
//!
//! A declaration that names its law alone hides every other defect that the law would show. Its units are the
//! names of what the law certifies, such as a parameter for its gradient, whichever of its rows a case looks
//! at. How far a unit is off on the declared case tells one defect in it from another.

use super::DeclaredUnit;
use lossproof_numerics::Violation;
use std::{collections::BTreeMap, fmt};

/// The units that are declared to fail.
pub(super) type Units = BTreeMap<String, DeclaredUnit>;

/// How far off a unit may be from how far it is declared to be, relative to that.
const TOLERANCE: f64 = 0.01;

/// A ratio is never more certain than this part of how far it is from 1: some are zero but for rounding.
const RESOLUTION: f64 = 1e-3;

/// What is written of a number, and what another machine computes, may differ from it by this part of its
/// tolerance.
const LASTING: f64 = 0.2;

/// The units of a law that failed on a case, each with the comparisons that were outside their bounds, the
/// furthest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Broken(BTreeMap<String, Vec<Violation>>);

impl Broken {
    /// Of violations, the worst first.
    #[must_use]
    pub fn of(violations: &[Violation]) -> Self {
        let mut broken = Self::default();
        for violation in violations {
            let unit = without_rows(&violation.unit).to_owned();
            broken.0.entry(unit).or_default().push(violation.clone());
        }
        broken
    }

    /// The units, in the order of their names.
    pub fn units(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn has(&self, unit: &str) -> bool {
        self.0.contains_key(unit)
    }

    /// How a unit failed, the furthest outside first.
    pub(super) fn of_unit(&self, unit: &str) -> Option<&[Violation]> {
        self.0.get(unit).map(Vec::as_slice)
    }

    /// What to declare of these units on the case they failed on.
    pub(super) fn declaration(&self) -> Units {
        let mut units = Units::new();
        for (unit, violations) in &self.0 {
            units.insert(unit.clone(), violations.first().map(DeclaredUnit::of).unwrap_or_default());
        }
        units
    }
}

/// The parameter of a block of rows, which hang on the lengths of a case's sequences.
fn without_rows(unit: &str) -> &str {
    unit.split_once("[rows ").map_or(unit, |(parameter, _)| parameter)
}

impl DeclaredUnit {
    /// What tells a violation from others of its unit on the same case, where every machine finds it: the ratio,
    /// or else the deviation.
    fn of(violation: &Violation) -> Self {
        match (lasting_ratio(violation), lasting_deviation(violation)) {
            (None, deviation) => Self { ratio: None, deviation },
            (ratio, _) => Self { ratio, deviation: None },
        }
    }

    /// Whether a violation of the unit on the declared case is the declared one.
    pub(super) fn is(&self, violation: &Violation) -> bool {
        let near = |found: f64, declared: f64, tolerance: f64| (found - declared).abs() <= tolerance;
        let ratio = self.ratio.is_none_or(|declared| {
            violation.ratio.is_some_and(|found| near(found, declared, ratio_tolerance(declared)))
        });
        let tolerance = |declared: f64| TOLERANCE * declared;
        ratio && self.deviation.is_none_or(|declared| near(violation.error, declared, tolerance(declared)))
    }
}

/// What is declared, in words.
impl fmt::Display for DeclaredUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ratio, self.deviation) {
            (Some(ratio), _) => write!(f, "{ratio} times what it should be"),
            (None, Some(deviation)) => write!(f, "off by {deviation} of its scale"),
            (None, None) => f.write_str("off"),
        }
    }
}

/// How a ratio may differ from one that is declared: a part of how far that is from 1, and of itself where it
/// is small.
fn ratio_tolerance(declared: f64) -> f64 {
    let off = (declared - 1.0).abs();
    (TOLERANCE * off * declared.abs().min(1.0)).max(RESOLUTION * off.min(1.0))
}

/// The ratio to six digits, where every machine finds it: one to what is zero but for rounding is chance.
///
/// With `e = |x − y|/s` outside its bound `b`, both `x` and `y` are known to `b·s`, and `x/y` to
/// `(1 + |x/y|)·b·s/|y| = (1 + |x/y|)·|x/y − 1|·b/e`.
fn lasting_ratio(violation: &Violation) -> Option<f64> {
    let Violation { error, bound, ratio, .. } = violation;
    let ratio = (*ratio)?;
    let written = if ratio.abs() < RESOLUTION { 0.0 } else { format!("{ratio:.5e}").parse().ok()? };
    let unknown = (1.0 + ratio.abs()) * (ratio - 1.0).abs() * bound / error + (ratio - written).abs();
    // Not so when it is no number, either.
    (unknown <= LASTING * ratio_tolerance(written)).then_some(written)
}

/// The relative deviation to four digits, where every machine finds it: it is known to its bound.
fn lasting_deviation(violation: &Violation) -> Option<f64> {
    let Violation { error, bound, .. } = violation;
    let written: f64 = format!("{error:.3e}").parse().ok()?;
    let unknown = bound + (error - written).abs();
    (written.is_finite() && unknown <= LASTING * TOLERANCE * written).then_some(written)
}

#[cfg(test)]
mod tests;
