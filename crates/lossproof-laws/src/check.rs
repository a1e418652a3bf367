//! What a law compared, on one case and over all of them.

use lossproof_numerics::{Strength, closeness, exceeds};
use std::{collections::BTreeMap, fmt};

/// One comparison that was outside its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// What was compared with what, and where.
    pub statement: String,
    /// The error found.
    pub error: f64,
    /// What it may be.
    pub bound: f64,
    /// The number that shows it best: what was found, and what was expected. Of a tensor, the worst element.
    pub pair: Option<(f64, f64)>,
    /// What the judged quantity is of the expected one as a whole, where both are parallel.
    pub ratio: Option<f64>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  error    {:.1e}, bound {:.1e}", self.statement, self.error, self.bound)?;
        if let Some((found, expected)) = self.pair {
            let hex = |value: f64| format!("{:#018x}", value.to_bits());
            write!(f, "\n  expected {expected:?} ({})", hex(expected))?;
            write!(f, "\n  found    {found:?} ({})", hex(found))?;
        }
        if let Some(ratio) = self.ratio {
            write!(f, "\n  ratio    {ratio:.6}")?;
        }
        Ok(())
    }
}

/// The comparisons of one case, or of many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Check {
    compared: usize,
    /// The comparison closest to its bound, or furthest beyond it.
    worst: Option<Worst>,
    violations: Vec<Violation>,
    /// What must be certified, such as the gradient of a parameter: the smallest relative error certain to be caught, and
    /// whether the negative control was.
    units: BTreeMap<String, Strength>,
}

/// The comparison closest to its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// Where.
    pub at: String,
    /// The error.
    pub error: f64,
    /// Its bound.
    pub bound: f64,
}

impl Worst {
    fn closeness(&self) -> f64 {
        closeness(self.error, self.bound)
    }
}

impl Check {
    /// Holds one comparison to `bound`; `effect` and `error` are as in [`Strength::of`].
    pub(crate) fn compare(
        &mut self,
        unit: &str,
        bound: f64,
        effect: f64,
        error: impl Fn(f64) -> f64,
        describe: impl FnOnce() -> Violation,
    ) {
        let now = error(1.0);
        self.hold(unit, bound, now, describe);
        self.strengthen(unit.to_owned(), Strength::of(bound, effect, now, error));
    }

    /// What one comparison of a unit certifies is certified.
    fn strengthen(&mut self, unit: String, strength: Strength) {
        self.units.entry(unit).and_modify(|own| *own = own.or(strength)).or_insert(strength);
    }

    /// Holds an error to a bound without claiming any power: for what must be zero.
    pub(crate) fn hold(&mut self, unit: &str, bound: f64, error: f64, describe: impl FnOnce() -> Violation) {
        self.compared += 1;
        self.note(Worst { at: unit.to_owned(), error, bound });
        if exceeds(error, bound) {
            self.violations.push(describe());
        }
    }

    fn note(&mut self, worst: Worst) {
        if self.worst.as_ref().is_none_or(|former| worst.closeness() > former.closeness()) {
            self.worst = Some(worst);
        }
    }

    /// The violations, the most relative to its bound first.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let mut violations = self.violations.clone();
        let excess = |violation: &Violation| violation.error / violation.bound;
        violations.sort_by(|a, b| excess(b).total_cmp(&excess(a)));
        violations
    }

    /// Adds another case's comparisons. What is certified on one of them is certified.
    pub(crate) fn merge(&mut self, other: Self) {
        self.compared += other.compared;
        if let Some(worst) = other.worst {
            self.note(worst);
        }
        self.violations.extend(other.violations);
        for (name, strength) in other.units {
            self.strengthen(name, strength);
        }
    }

    pub(crate) fn is_violated(&self) -> bool {
        !self.violations.is_empty()
    }

    pub(crate) fn compared(&self) -> usize {
        self.compared
    }

    pub(crate) fn worst(&self) -> Option<&Worst> {
        self.worst.as_ref()
    }

    /// The smallest relative error of any unit that some comparison was certain to catch; infinite when one unit was never
    /// compared in a way that could.
    pub(crate) fn power(&self) -> f64 {
        self.units.values().map(|unit| unit.power).fold(0.0, f64::max)
    }

    /// The first unit that nothing certified, or whose negative control was missed.
    pub(crate) fn uncertified(&self) -> Option<&str> {
        self.units.iter().find(|(_, unit)| !unit.caught).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation() -> Violation {
        Violation { statement: "x = y".to_owned(), error: 1.0, bound: 0.5, pair: None, ratio: None }
    }

    fn compare(check: &mut Check, unit: &str, actual: f64, expected: f64, bound: f64) {
        check.compare(unit, bound, actual.abs(), |factor| (factor * actual - expected).abs(), violation);
    }

    #[test]
    fn what_one_case_certifies_is_certified() {
        let mut all = Check::default();
        compare(&mut all, "x", 1e-20, 1e-20, 1e-10);
        assert_eq!(all.uncertified(), Some("x"), "an effect below the bound certifies nothing");
        let mut strong = Check::default();
        compare(&mut strong, "x", 1.0, 1.0, 1e-10);
        all.merge(strong);
        assert_eq!(all.uncertified(), None);
        assert!((all.power() / 1e-10 - 1.0).abs() < 1e-12);
        assert!(all.violations().is_empty());
    }

    #[test]
    fn nan_is_a_violation() {
        let mut check = Check::default();
        compare(&mut check, "x", f64::NAN, 1.0, 1e-10);
        compare(&mut check, "y", 1.0, f64::NAN, 1e-10);
        compare(&mut check, "z", 1.0, 1.0, f64::NAN);
        assert_eq!(check.violations().len(), 3);
        assert_eq!(check.worst().map(|worst| worst.at.as_str()), Some("x"));
    }

    #[test]
    fn bit_equality_is_a_bound_of_zero() {
        let mut check = Check::default();
        check.hold("x", 0.0, 0.0, violation);
        assert!(check.violations().is_empty());
        check.hold("x", 0.0, f64::MIN_POSITIVE, violation);
        assert_eq!(check.violations().len(), 1);
    }
}
