//! What was compared, once and over many times: errors, bounds, and what was certified.

use crate::{closeness, exceeds, power};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
};

/// One comparison that was outside its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// What was to be certified, such as the gradient of a parameter.
    pub unit: String,
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

/// What was compared, then the numbers.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.statement)?;
        if let Some((found, expected)) = self.pair {
            write!(f, "\n  found {found:?} where {expected:?} is expected")?;
        }
        if let Some(ratio) = self.ratio {
            write!(f, "\n  as a whole it is {ratio:.6} times what is expected")?;
        }
        write!(f, "\n  the error is {:.1e}, the bound {:.1e}", self.error, self.bound)
    }
}

/// What changes an answer so that a unit must fail: the negative control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// A factor of 1 + 4 × power on what the unit names.
    Factor,
    /// Zero in place of what the unit names.
    Zero,
    /// Any change of any answer: the unit names no part of one.
    Any,
}

/// What is certified of a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// The smallest relative error that some comparison was certain to catch; infinite where none was.
    pub power: f64,
    /// How it is put to the test.
    pub control: Control,
}

/// The comparisons of one case, or of many.
///
/// A *unit* is what must be certified, such as the gradient of a parameter. Many comparisons can be of one
/// unit: all have to hold, and the strongest gives it its power.
#[derive(Clone, Debug, Default)]
pub struct Comparisons {
    compared: usize,
    closest: Option<Closest>,
    violations: Vec<Violation>,
    units: BTreeMap<String, Unit>,
    /// The units of all comparisons, those that certify nothing included.
    looked_at: BTreeSet<String>,
}

/// The comparison that came closest to its bound, or went furthest beyond it.
#[derive(Clone, Debug, PartialEq)]
pub struct Closest {
    /// Where.
    pub at: String,
    /// The error.
    pub error: f64,
    /// Its bound.
    pub bound: f64,
}

impl Closest {
    /// How much of its bound the error takes.
    #[must_use]
    pub fn closeness(&self) -> f64 {
        closeness(self.error, self.bound)
    }
}

impl Comparisons {
    /// Holds one comparison to `bound`; `effect` is how much the error grows per relative change of what is
    /// judged, as in [`power`].
    pub fn compare(
        &mut self,
        unit: &str,
        bound: f64,
        effect: f64,
        error: f64,
        describe: impl FnOnce() -> Violation,
    ) {
        self.hold(unit, bound, error, describe);
        self.certify(unit, Unit { power: power(bound, effect, error), control: Control::Factor });
    }

    /// Holds an error to a bound without claiming any power: for what must be zero.
    pub fn hold(&mut self, unit: &str, bound: f64, error: f64, describe: impl FnOnce() -> Violation) {
        self.compared += 1;
        if !self.looked_at.contains(unit) {
            self.looked_at.insert(unit.to_owned());
        }
        self.note(Closest { at: unit.to_owned(), error, bound });
        if exceeds(error, bound) {
            self.violations.push(describe());
        }
    }

    /// Records a violation of a unit that is no matter of degree, unless `holds`.
    pub fn fact(&mut self, unit: &str, holds: bool, statement: impl FnOnce() -> String) {
        let (error, bound) = (if holds { 0.0 } else { f64::INFINITY }, 0.0);
        self.hold(unit, bound, error, || Violation {
            unit: unit.to_owned(),
            statement: statement(),
            error,
            bound,
            pair: None,
            ratio: None,
        });
    }

    /// Demands that a unit is certified, here or on another case. What nothing certifies leaves the whole
    /// undecided.
    pub fn require(&mut self, unit: &str) {
        self.certify(unit, Unit { power: f64::INFINITY, control: Control::Factor });
    }

    /// What one comparison of a unit certifies is certified.
    pub fn certify(&mut self, unit: &str, certified: Unit) {
        match self.units.entry(unit.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(certified);
            }
            Entry::Occupied(mut entry) if certified.power < entry.get().power => {
                entry.insert(certified);
            }
            Entry::Occupied(_) => {}
        }
    }

    fn note(&mut self, candidate: Closest) {
        if self.closest.as_ref().is_none_or(|former| candidate.closeness() > former.closeness()) {
            self.closest = Some(candidate);
        }
    }

    /// The violations, the most relative to its bound first.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut violations = self.violations.clone();
        let excess = |violation: &Violation| violation.error / violation.bound;
        violations.sort_by(|a, b| excess(b).total_cmp(&excess(a)));
        violations
    }

    /// These comparisons, made at one place of many: what came closest says so.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        if let Some(closest) = &mut self.closest {
            closest.at = format!("{} at {place}", closest.at);
        }
        self
    }

    /// Adds the number of another case's comparisons, and what came closest, without what it violates and certifies.
    pub fn count(&mut self, other: &Self) {
        self.compared += other.compared;
        if let Some(candidate) = &other.closest {
            self.note(candidate.clone());
        }
    }

    /// Adds another case's comparisons. What is certified on one of them is certified.
    pub fn merge(&mut self, other: Self) {
        self.count(&other);
        self.violations.extend(other.violations);
        self.looked_at.extend(other.looked_at);
        for (name, unit) in other.units {
            self.certify(&name, unit);
        }
    }

    /// Whether a comparison was outside its bound.
    #[must_use]
    pub fn is_violated(&self) -> bool {
        !self.violations.is_empty()
    }

    /// Whether a comparison of this unit was outside its bound.
    #[must_use]
    pub fn violates(&self, unit: &str) -> bool {
        self.violations.iter().any(|violation| violation.unit == unit)
    }

    /// Numbers and tensors compared.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.compared
    }

    /// The comparison that came closest to its bound, or went furthest beyond it.
    #[must_use]
    pub fn closest(&self) -> Option<&Closest> {
        self.closest.as_ref()
    }

    /// The units of which anything was compared, in the order of their names.
    #[must_use]
    pub fn looked_at(&self) -> &BTreeSet<String> {
        &self.looked_at
    }

    /// Every unit that is certified or has to be, in the order of their names.
    pub fn units(&self) -> impl Iterator<Item = (&str, Unit)> {
        self.units.iter().map(|(name, unit)| (name.as_str(), *unit))
    }

    /// What is certified of the unit with this name.
    #[must_use]
    pub fn unit(&self, name: &str) -> Option<Unit> {
        self.units.get(name).copied()
    }

    /// The smallest relative error of any unit that some comparison was certain to catch; infinite when one
    /// unit was never compared in a way that could, and `None` where nothing is certified by degree.
    #[must_use]
    pub fn power(&self) -> Option<f64> {
        let by_degree = self.units.values().filter(|unit| unit.control == Control::Factor);
        by_degree.map(|unit| unit.power).reduce(f64::max)
    }

    /// The first unit that nothing certified.
    #[must_use]
    pub fn uncertified(&self) -> Option<&str> {
        self.units.iter().find(|(_, unit)| !unit.power.is_finite()).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation() -> Violation {
        let (unit, statement) = ("x".to_owned(), "x = y".to_owned());
        Violation { unit, statement, error: 1.0, bound: 0.5, pair: None, ratio: None }
    }

    fn compare(of: &mut Comparisons, unit: &str, actual: f64, expected: f64, bound: f64) {
        of.compare(unit, bound, actual.abs(), (actual - expected).abs(), violation);
    }

    #[test]
    fn what_one_case_certifies_is_certified() {
        let mut all = Comparisons::default();
        compare(&mut all, "x", 1e-20, 1e-20, 1e-10);
        assert_eq!(all.uncertified(), Some("x"), "an effect below the bound certifies nothing");
        let mut strong = Comparisons::default();
        compare(&mut strong, "x", 1.0, 1.0, 1e-10);
        all.merge(strong);
        assert_eq!(all.uncertified(), None);
        assert!(all.power().is_some_and(|power| (power / 1e-10 - 1.0).abs() < 1e-12));
        assert!(all.violations().is_empty());
    }

    #[test]
    fn nothing_certified_is_no_power_and_not_zero() {
        let mut all = Comparisons::default();
        all.hold("x", 1e-10, 0.0, violation);
        assert_eq!(all.power(), None);
        all.require("x");
        assert_eq!((all.power(), all.uncertified()), (Some(f64::INFINITY), Some("x")));
    }

    #[test]
    fn nan_is_a_violation() {
        let mut all = Comparisons::default();
        compare(&mut all, "x", f64::NAN, 1.0, 1e-10);
        compare(&mut all, "y", 1.0, f64::NAN, 1e-10);
        compare(&mut all, "z", 1.0, 1.0, f64::NAN);
        assert_eq!(all.violations().len(), 3);
        assert_eq!(all.closest().map(|closest| closest.at.as_str()), Some("x"));
    }

    #[test]
    fn bit_equality_is_a_bound_of_zero() {
        let mut all = Comparisons::default();
        all.hold("x", 0.0, 0.0, violation);
        assert!(all.violations().is_empty());
        all.hold("x", 0.0, f64::MIN_POSITIVE, violation);
        assert_eq!(all.violations().len(), 1);
    }
}
