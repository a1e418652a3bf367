//! Two curves in plain text.

use std::fmt::{self, Write};

/// Rows of a plot.
const ROWS: usize = 8;
/// Columns of a plot at most.
const COLUMNS: usize = 60;

/// Where positive values span more than this factor, equal heights are equal factors.
const LOGARITHMIC: f64 = 1e3;

/// Two curves: `·` what was expected, `×` what came, `∗` both in one place. What is not finite is left out.
#[derive(Clone, Copy, Debug)]
pub struct Plot<'a> {
    /// What the points are by: `step`.
    pub axis: &'a str,
    /// Where the points are, in order.
    pub places: &'a [u64],
    /// What was expected at each place.
    pub expected: &'a [f64],
    /// What came there; empty where there is one curve alone.
    pub actual: &'a [f64],
}

impl Plot<'_> {
    /// The point shown in a column, counted from 0.
    fn point(&self, column: usize) -> usize {
        let points = self.places.len();
        if points <= COLUMNS { column } else { column * (points - 1) / (COLUMNS - 1) }
    }

    fn columns(&self) -> usize {
        self.places.len().min(COLUMNS)
    }
}

impl fmt::Display for Plot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finite = || self.expected.iter().chain(self.actual).copied().filter(|value| value.is_finite());
        let (low, high) =
            (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let logarithmic = low > 0.0 && high / low > LOGARITHMIC;
        let scaled = |value: f64| if logarithmic { value.ln() } else { value };
        // From the top; a curve without height lies at the bottom.
        let row = |value: f64| {
            let height =
                if high > low { (scaled(value) - scaled(low)) / (scaled(high) - scaled(low)) } else { 0.0 };
            (0..ROWS).rev().find(|&row| height <= (ROWS - row) as f64 / ROWS as f64).unwrap_or(0)
        };
        for line in 0..ROWS {
            let label = match line {
                0 => format!("{high:.4e}"),
                _ if line == ROWS - 1 => format!("{low:.4e}"),
                _ => String::new(),
            };
            let mut curve = String::new();
            for column in 0..self.columns() {
                let is_here = |values: &[f64]| {
                    values
                        .get(self.point(column))
                        .is_some_and(|&value| value.is_finite() && row(value) == line)
                };
                curve.push(match (is_here(self.expected), is_here(self.actual)) {
                    (true, true) => '∗',
                    (true, false) => '·',
                    (false, true) => '×',
                    (false, false) => ' ',
                });
            }
            writeln!(f, "  {label:>11} │{}", curve.trim_end())?;
        }
        writeln!(f, "  {:>11} └{}", "", "─".repeat(self.columns()))?;
        let [first, last] =
            [self.places.first(), self.places.last()].map(|place| place.copied().unwrap_or(0));
        let last = last.to_string();
        // One space at least between the first place and the last.
        let width = self.columns().saturating_sub(last.len()).max(first.to_string().len() + 1);
        let mut axis = String::new();
        write!(axis, "{first:<width$}")?;
        write!(f, "  {:>11}  {axis}{last}", self.axis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(expected: &[f64], actual: &[f64]) -> String {
        let places: Vec<u64> = (1..).take(expected.len()).collect();
        Plot { axis: "step", places: &places, expected, actual }.to_string()
    }

    #[test]
    fn curves_meet_and_part() {
        insta::assert_snapshot!(plot(&[8.0, 4.0, 2.0, 1.0, 1.0], &[8.0, 4.0, 5.0, f64::NAN, 7.0]), @r"
        8.0000e0 │∗
                 │    ×
                 │
                 │  ×
                 │ ∗
                 │
                 │  ·
        1.0000e0 │   ··
                 └─────
            step  1   5
        ");
    }

    #[test]
    fn a_large_factor_is_drawn_as_factors() {
        let doubling: Vec<f64> = (0..16).map(|power| f64::from(power).exp2()).collect();
        insta::assert_snapshot!(plot(&doubling, &[1.0; 16]), @r"
        3.2768e4 │              ··
                 │            ··
                 │          ··
                 │        ··
                 │      ··
                 │    ··
                 │  ··
        1.0000e0 │∗∗××××××××××××××
                 └────────────────
            step  1             16
        ");
    }

    #[test]
    fn a_long_run_fits_and_nothing_is_drawn_of_nothing() {
        let long = vec![1.0; 1000];
        let lines = plot(&long, &long);
        let width = |line: &str| line.chars().count();
        assert!(lines.lines().all(|line| width(line) <= 15 + COLUMNS), "{lines}");
        assert!(lines.ends_with("1000"), "{lines}");
        assert!(!plot(&[f64::NAN], &[f64::INFINITY]).contains(['·', '×', '∗']));
    }
}
