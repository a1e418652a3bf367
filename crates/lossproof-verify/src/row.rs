//! Building a row from comparisons, with its power and its negative control.

use super::statement::{BoundFrom, Comparison, Row, Statement, Verdict};
use lossproof_numerics::{Strength, closeness, exceeds};

/// A row in the making.
///
/// What must be certified, such as a parameter's gradient, is a *unit*; one unit can have several comparisons (directions)
/// of which one has to be strong enough, while all of them have to hold.
pub(crate) struct RowBuilder {
    row: Row,
    strongest_in_unit: Option<Strength>,
    units: usize,
    unchecked: bool,
    failed: bool,
}

impl RowBuilder {
    pub(crate) fn new(
        statement: Statement,
        semantics: Option<&'static str>,
        subject: &str,
        text: String,
        bound_from: BoundFrom,
    ) -> Self {
        let worst = Comparison { at: "nothing".to_owned(), error: 0.0, bound: 0.0 };
        let row = Row {
            statement,
            semantics,
            subject: subject.to_owned(),
            text,
            worst,
            bound_from,
            compared: 0,
            power: 0.0,
            control_caught: true,
            verdict: Verdict::Unchecked,
        };
        Self { row, strongest_in_unit: None, units: 0, unchecked: false, failed: false }
    }

    /// Holds one comparison to `bound`; `effect` and `error` are as in [`Strength::of`].
    pub(crate) fn compare(
        &mut self,
        at: impl FnOnce() -> String,
        bound: f64,
        effect: f64,
        error: impl Fn(f64) -> f64,
    ) {
        let now = error(1.0);
        self.hold(at, now, bound);
        let this = Strength::of(bound, effect, now, error);
        self.strongest_in_unit = Some(self.strongest_in_unit.map_or(this, |former| former.or(this)));
    }

    /// Holds one number to another, relative to `scale`, as a unit of its own.
    pub(crate) fn number(
        &mut self,
        at: impl FnOnce() -> String,
        bound: f64,
        (actual, expected): (f64, f64),
        scale: f64,
    ) {
        self.compare(at, bound, actual.abs() / scale, |factor| (factor * actual - expected).abs() / scale);
        self.end_unit();
    }

    /// Holds an error to a bound without claiming any power: for what is structurally zero.
    pub(crate) fn hold(&mut self, at: impl FnOnce() -> String, error: f64, bound: f64) {
        self.row.compared += 1;
        self.failed |= exceeds(error, bound);
        let first = self.row.compared == 1;
        if first || closeness(error, bound) > closeness(self.row.worst.error, self.row.worst.bound) {
            self.row.worst = Comparison { at: at(), error, bound };
        }
    }

    /// Ends a unit: its power is that of its strongest comparison.
    pub(crate) fn end_unit(&mut self) {
        self.units += 1;
        match self.strongest_in_unit.take() {
            Some(unit) if unit.power.is_finite() => {
                self.row.power = self.row.power.max(unit.power);
                self.row.control_caught &= unit.caught;
            }
            _ => self.unchecked = true,
        }
    }

    /// Marks that something could not be certified although nothing failed.
    pub(crate) fn uncertain(&mut self) {
        self.unchecked = true;
    }

    /// Holds the loss of each prediction to the one expected of it.
    pub(crate) fn token_losses(&mut self, bound: f64, actual: &[f64], expected: &[f64]) {
        for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
            let scale = expected.abs().max(1.0);
            self.number(|| format!("prediction {index}"), bound, (actual, expected), scale);
        }
    }

    pub(crate) fn finish(mut self) -> Row {
        self.row.verdict = if self.failed {
            Verdict::Fail
        } else if self.unchecked || self.units == 0 {
            Verdict::Unchecked
        } else {
            Verdict::Pass
        };
        // With nothing certified there is no power, and nothing a control could have been caught by.
        if self.units == 0 || (self.unchecked && self.row.power == 0.0) {
            self.row.power = f64::INFINITY;
            self.row.control_caught = false;
        }
        self.row
    }
}
