//! In what a run differs from the declaration of a failure.

use super::{Broken, DeclaredUnit, Outcome, broken::Units, outcome::Replay};
use std::fmt;

/// In what a run differs from the declaration of a law whose declared case still shows what is declared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// Units that failed and are not declared to.
    pub(super) undeclared: Vec<String>,
    /// Units that are off by something else on the declared case than is declared.
    altered: Vec<Altered>,
    /// Units that are declared to fail and no longer do.
    pub(super) gone: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Altered {
    unit: String,
    declared: DeclaredUnit,
    found: DeclaredUnit,
}

impl Difference {
    pub(super) fn of(declared: &Units, outcome: &Outcome) -> Self {
        let mut difference = Self::default();
        let on_declared = match &outcome.replay {
            Some(Replay::Fails(broken)) => Some(broken),
            _ => None,
        };
        let others = [&outcome.broken, &outcome.elsewhere];
        for unit in on_declared.into_iter().chain(others).flat_map(Broken::units) {
            if !declared.contains_key(unit) && !difference.undeclared.iter().any(|known| known == unit) {
                difference.undeclared.push(unit.to_owned());
            }
        }
        // Where the declared case shows an error, nothing says what else fails.
        let Some(on_declared) = on_declared else { return difference };
        for (unit, declared) in declared {
            let Some(violations) = on_declared.of_unit(unit) else {
                if !others.iter().any(|broken| broken.has(unit)) {
                    difference.gone.push(unit.clone());
                }
                continue;
            };
            // Which comparison is the furthest outside may be a matter of rounding.
            if violations.iter().any(|violation| declared.is(violation)) {
                continue;
            }
            // In the terms of the declaration, whether or not another machine finds the same.
            let found = violations.first().map(|violation| DeclaredUnit {
                ratio: violation.ratio.filter(|_| declared.ratio.is_some()),
                deviation: Some(violation.error),
            });
            let found = found.unwrap_or_default();
            difference.altered.push(Altered { unit: unit.clone(), declared: *declared, found });
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
        for unit in outcome.broken.units().chain(outcome.elsewhere.units()) {
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
            parts.push(format!("`{unit}` is {found}, and declared to be {declared}"));
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
