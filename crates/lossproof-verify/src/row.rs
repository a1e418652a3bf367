//! Building a row: its comparisons by unit, and the negative control of every unit.

use super::{
    alteration::{Alteration, Answer},
    statement::{BoundFrom, Comparison, Statement, StatementRow, Verdict},
};
use lossproof_numerics::{Block, Comparisons, Violation, exceeds};

/// One thing that was measured.
pub(crate) enum Measurement {
    /// An error held to a bound. `effect` is how much the error grows per relative change of what is judged.
    Compared { error: f64, bound: f64, effect: f64 },
    /// An error held to a bound that certifies nothing: of what must be zero, or is missing.
    Held { error: f64, bound: f64 },
    /// A place that could neither be held nor refuted, and that nothing else can stand in for.
    Undecided { at: String },
}

impl Measurement {
    /// What is measured of one block of a gradient, of this size. Where it is structurally zero, what counts
    /// is how far from zero it is, too, and nothing is certified.
    pub(crate) fn of_block(block: &Block, error: f64, size: f64, bound: f64) -> Self {
        if block.structurally_zero {
            Self::Held { error: error.max(size), bound }
        } else {
            Self::Compared { error, bound, effect: size }
        }
    }

    fn breaks_its_bound(&self) -> bool {
        match self {
            Self::Compared { error, bound, .. } | Self::Held { error, bound } => exceeds(*error, *bound),
            Self::Undecided { .. } => false,
        }
    }
}

/// A number beside the one expected of it, and what their distance is relative to.
pub(crate) struct Numbers {
    pub(crate) actual: f64,
    pub(crate) expected: f64,
    pub(crate) scale: f64,
}

impl Numbers {
    /// The loss of one prediction: a small loss is as exact as one of 1, being a difference of logits.
    pub(crate) fn token_loss(actual: f64, expected: f64) -> Self {
        Self { actual, expected, scale: expected.abs().max(1.0) }
    }
}

/// A row in the making.
///
/// What must be certified, such as the gradient of a parameter, is a *unit*. One unit can have several
/// measurements, such as directions, of which one has to be strong enough while all of them have to hold. A
/// row is a function of the answers of subjects. Where a unit holds, that function is evaluated again with
/// one answer altered, and must break its bound.
pub(crate) struct RowBuilder {
    row: StatementRow,
    comparisons: Comparisons,
    /// Whether what is judged and what it is held to are one implementation.
    is_itself: bool,
    /// Why the row is unchecked, as far as is known.
    unchecked: Option<String>,
    control_caught: bool,
}

impl RowBuilder {
    pub(crate) fn new(
        statement: Statement,
        semantics: Option<&'static str>,
        subject: &str,
        text: String,
        bound_from: BoundFrom,
    ) -> Self {
        let row = StatementRow {
            statement,
            semantics,
            subject: subject.to_owned(),
            text,
            worst: Comparison { at: "nothing".to_owned(), error: 0.0, bound: 0.0 },
            bound_from,
            compared: 0,
            power: None,
            control_caught: false,
            verdict: Verdict::Unchecked,
            unchecked: None,
        };
        let comparisons = Comparisons::default();
        Self { row, comparisons, is_itself: false, unchecked: None, control_caught: true }
    }

    /// Says whether what is judged and what it is held to are one implementation, for the report to say why a
    /// control was not caught.
    pub(crate) fn of_itself(mut self, is_itself: bool) -> Self {
        self.is_itself = is_itself;
        self
    }

    /// Judges one unit. `measure` is the row's function of the answers, of which the alteration changes one;
    /// `controls` makes the alterations that must not pass, from the power of the unit.
    pub(crate) fn unit<'a>(
        &mut self,
        unit: &str,
        measure: impl Fn(Option<&Alteration<'a>>) -> Vec<Measurement>,
        controls: impl FnOnce(f64) -> Vec<Alteration<'a>>,
    ) {
        let measurements = measure(None);
        if measurements.is_empty() {
            self.comparisons.require(unit);
        }
        for measurement in measurements {
            match measurement {
                Measurement::Compared { error, bound, effect } => {
                    self.comparisons.compare(unit, bound, effect, error, || violation(unit, error, bound));
                }
                Measurement::Held { error, bound } => self.hold(unit, error, bound),
                Measurement::Undecided { at } => {
                    self.uncertain(|| format!("{at} was neither certified nor refuted"));
                }
            }
        }
        let power = self.comparisons.unit(unit).map(|unit| unit.power).filter(|power| power.is_finite());
        let Some(power) = power.filter(|_| !self.comparisons.violates(unit)) else { return };
        for alteration in controls(power) {
            if !measure(Some(&alteration)).iter().any(Measurement::breaks_its_bound) {
                self.control_caught = false;
                let itself = self.is_itself;
                self.uncertain(|| {
                    if itself {
                        "it compares an implementation with itself".to_owned()
                    } else {
                        format!("{unit} was altered by four times the power, and that went unnoticed")
                    }
                });
            }
        }
    }

    /// Judges one number as a unit of its own.
    pub(crate) fn number<'a>(
        &mut self,
        unit: &str,
        bound: f64,
        answer: Answer<'a>,
        numbers: impl Fn(Option<&Alteration<'a>>) -> Numbers,
    ) {
        let measure = |alteration: Option<&Alteration<'a>>| {
            let Numbers { actual, expected, scale } = numbers(alteration);
            let error = (actual - expected).abs() / scale;
            vec![Measurement::Compared { error, bound, effect: actual.abs() / scale }]
        };
        self.unit(unit, measure, |power| vec![Alteration::scaled(answer, power)]);
    }

    /// Holds an error to a bound without claiming any power.
    pub(crate) fn hold(&mut self, unit: &str, error: f64, bound: f64) {
        self.comparisons.hold(unit, bound, error, || violation(unit, error, bound));
    }

    fn uncertain(&mut self, why: impl FnOnce() -> String) {
        self.unchecked.get_or_insert_with(why);
    }

    pub(crate) fn finish(mut self) -> StatementRow {
        let power = self.comparisons.power();
        if power.is_none() {
            self.uncertain(|| "nothing was certified".to_owned());
        }
        if let Some(unit) = self.comparisons.uncertified().map(str::to_owned) {
            self.uncertain(|| format!("{unit}: nothing that was compared would show an error of 1 %"));
        }
        if let Some(worst) = self.comparisons.closest() {
            let (at, error, bound) = (worst.at.clone(), worst.error, worst.bound);
            self.row.worst = Comparison { at, error, bound };
        }
        let failed = self.comparisons.is_violated();
        self.row.verdict = match &self.unchecked {
            _ if failed => Verdict::Fail,
            Some(_) => Verdict::Unchecked,
            None => Verdict::Pass,
        };
        StatementRow {
            compared: self.comparisons.compared(),
            power: power.filter(|power| power.is_finite()),
            control_caught: self.control_caught && power.is_some_and(f64::is_finite),
            unchecked: self.unchecked.filter(|_| !failed),
            ..self.row
        }
    }
}

fn violation(unit: &str, error: f64, bound: f64) -> Violation {
    let (unit, statement) = (unit.to_owned(), unit.to_owned());
    Violation { unit, statement, error, bound, pair: None, ratio: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alteration::seen;

    /// A row on one number of 2, expected to be `expected` by what becomes of the number when it is altered.
    fn row(expected: impl Fn(f64) -> f64, is_itself: bool) -> StatementRow {
        let text = "a number".to_owned();
        let mut row = RowBuilder::new(Statement::Loss, None, "a trainer", text, BoundFrom::Rounding)
            .of_itself(is_itself);
        row.number("the number", 1e-10, Answer::Loss(0), |alteration| {
            let actual = seen(alteration, Answer::Loss(0), 2.0);
            Numbers { actual, expected: expected(actual), scale: 2.0 }
        });
        row.finish()
    }

    #[test]
    fn a_row_that_notices_an_altered_answer_passes_and_one_that_does_not_is_unchecked() {
        let notices = row(|_| 2.0, false);
        assert_eq!((notices.verdict, notices.control_caught), (Verdict::Pass, true));
        assert!(notices.power.is_some_and(|power| (power / 1e-10 - 1.0).abs() < 1e-12));
        let itself = row(|actual| actual, true);
        assert_eq!((itself.verdict, itself.control_caught), (Verdict::Unchecked, false));
        assert_eq!(itself.unchecked.as_deref(), Some("it compares an implementation with itself"));
        let blind = row(|actual| actual, false);
        assert_eq!((blind.verdict, blind.control_caught), (Verdict::Unchecked, false));
        assert!(blind.unchecked.is_some_and(|why| why.contains("went unnoticed")));
        let wrong = row(|actual| actual + 1.0, true);
        assert_eq!((wrong.verdict, wrong.unchecked), (Verdict::Fail, None));
    }

    #[test]
    fn nothing_certified_has_no_power_and_passes_nothing() {
        let row = || RowBuilder::new(Statement::Loss, None, "", String::new(), BoundFrom::Rounding);
        let mut held = row();
        held.hold("what is zero", 0.0, 1e-10);
        let mut weak = row();
        let weakly = |_: Option<&Alteration<'_>>| {
            vec![Measurement::Compared { error: 0.0, bound: 1e-10, effect: 1e-9 }]
        };
        weak.unit("a gradient", weakly, |_| Vec::new());
        let mut silent = row();
        silent.unit("a parameter", |_| Vec::new(), |_| Vec::new());
        for row in [row(), held, weak, silent].map(RowBuilder::finish) {
            assert_eq!((row.verdict, row.control_caught, row.power), (Verdict::Unchecked, false, None));
            assert!(row.unchecked.is_some());
        }
    }

    #[test]
    fn one_unit_that_is_undecided_leaves_the_row_unchecked() {
        let text = "a number".to_owned();
        let mut row = RowBuilder::new(Statement::Loss, None, "a trainer", text, BoundFrom::Plateau);
        let measure = |alteration: Option<&Alteration<'_>>| {
            let error = (seen(alteration, Answer::Loss(0), 1.0) - 1.0).abs();
            vec![
                Measurement::Compared { error, bound: 1e-9, effect: 1.0 },
                Measurement::Undecided { at: "x[3]".to_owned() },
            ]
        };
        row.unit("x", measure, |power| vec![Alteration::scaled(Answer::Loss(0), power)]);
        let row = row.finish();
        assert_eq!((row.verdict, row.control_caught), (Verdict::Unchecked, true));
        assert_eq!(row.unchecked.as_deref(), Some("x[3] was neither certified nor refuted"));
    }
}
