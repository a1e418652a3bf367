//! Axes: from numbers to places between 0 and 1, and the numbers that are written beside them.

use crate::number;

/// The most ticks of an axis.
const TICKS: usize = 20;
/// About how many ticks there should be.
const WANTED: f64 = 5.0;
/// How far beyond an end a tick may be, in steps: roundings, and nothing that can be seen.
const SLACK: f64 = 1e-9;
/// The narrowest an axis gets, relative to the numbers on it: a few hundred roundings.
const NARROWEST: f64 = 1e-13;

/// An axis that all numbers it was made of are on.
pub(super) struct Axis {
    log: bool,
    /// The ends, as `scaled` has them.
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis for these numbers, which are finite, and positive where it is logarithmic; `None` where there
    /// are none.
    /// `margin` is how much of its length is left free at each end.
    pub(super) fn new(values: impl Iterator<Item = f64>, log: bool, margin: f64) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            let value = scaled(value, log);
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            return None;
        }
        let size = low.abs().max(high.abs());
        if high - low <= NARROWEST * size {
            let wider = if size == 0.0 { 1.0 } else { size * 0.05 };
            (low, high) = (low - wider, high + wider);
        } else {
            let wider = (high - low) * margin;
            (low, high) = (low - wider, high + wider);
        }
        Some(Self { log, low, high })
    }

    /// Where a number is: 0 at the lower end, 1 at the upper one.
    pub(super) fn at(&self, value: f64) -> f64 {
        (scaled(value, self.log) - self.low) / (self.high - self.low)
    }

    /// Round numbers along the axis, with what is written beside each.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        if self.log {
            let ticks = self.powers();
            if ticks.len() > 1 {
                return ticks;
            }
            return linear(10_f64.powf(self.low), 10_f64.powf(self.high));
        }
        // Twice the halves, which may be beyond the largest number there is.
        linear(clamped(self.low * 2.0), clamped(self.high * 2.0))
    }

    /// Powers of ten, of which some are left out where they are many, or with their double and fivefold where
    /// few.
    #[expect(clippy::cast_possible_truncation, reason = "the decimal exponent of an f64 is at most 324")]
    fn powers(&self) -> Vec<(f64, String)> {
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        let decades = self.high - self.low;
        let every = (decades / WANTED).ceil().max(1.0) as i32;
        let multiples: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        for exponent in (first..=last).filter(|exponent| exponent.rem_euclid(every) == 0) {
            for multiple in multiples {
                let value = format!("{multiple}e{exponent}").parse().unwrap_or(f64::NAN);
                if (self.low..=self.high).contains(&scaled(value, true)) {
                    ticks.push((value, written(value, value, value)));
                }
            }
        }
        ticks
    }
}

/// By the logarithm, or half the number: the distance of two numbers may be twice the largest number there
/// is.
fn scaled(value: f64, log: bool) -> f64 {
    if log { value.log10() } else { value / 2.0 }
}

fn clamped(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn linear(low: f64, high: f64) -> Vec<(f64, String)> {
    let step = round_step((high / WANTED) - (low / WANTED));
    let mut ticks = Vec::new();
    if !(step > 0.0 && step.is_finite()) {
        return ticks;
    }
    // An end that is a multiple of the step is a tick, whatever the division rounds to.
    let first = (low / step - SLACK).ceil();
    for index in 0..TICKS {
        let value = (first + index as f64) * step;
        if value / step > high / step + SLACK {
            break;
        }
        ticks.push((value, written(value, step, low.abs().max(high.abs()))));
    }
    ticks
}

/// The next step above `raw` that is 1, 2 or 5 times a power of ten.
fn round_step(raw: f64) -> f64 {
    let exponent = raw.log10().floor();
    for multiple in [1.0, 2.0, 5.0] {
        let step = format!("{multiple}e{exponent}").parse().unwrap_or(f64::NAN);
        if raw <= step {
            return step;
        }
    }
    format!("1e{}", exponent + 1.0).parse().unwrap_or(f64::NAN)
}

/// A tick with the digits that tell it from its neighbours, `step` away, on an axis up to `largest`.
#[expect(clippy::cast_possible_truncation, reason = "the decimal exponent of an f64 is at most 324")]
fn written(value: f64, step: f64, largest: f64) -> String {
    if value.abs() < step / 2.0 {
        return "0".to_owned();
    }
    let smallest = step.log10().floor() as i32;
    if largest < 1e6 && smallest >= -4 {
        return number::grouped(&format!("{value:.*}", usize::try_from(-smallest).unwrap_or(0)));
    }
    let digits = value.abs().log10().floor() as i32 - smallest;
    let text = format!("{value:.*e}", usize::try_from(digits).unwrap_or(0).min(15));
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => {
            format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// The longest of the labels, in characters.
pub(super) fn longest(ticks: &[(f64, String)]) -> usize {
    ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0)
}

/// What is written beside the ends of an axis whose ticks say nothing: the smallest and the largest number.
pub(super) fn ends(values: impl Iterator<Item = f64> + Clone) -> Vec<(f64, String)> {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    [low, high].into_iter().filter(|end| end.is_finite()).map(|end| (end, number::short(end))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], log: bool) -> Vec<String> {
        let axis = Axis::new(values.iter().copied(), log, 0.0).unwrap();
        for value in values {
            assert!((0.0..=1.0).contains(&axis.at(*value)), "{values:?}");
        }
        let ticks = axis.ticks();
        for (tick, _) in &ticks {
            assert!((-1e-9..=1.0 + 1e-9).contains(&axis.at(*tick)), "{values:?}: {tick}");
        }
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_distinct() {
        assert_eq!(labels(&[0.0, 12_000.0], false), ["0", "5000", "10\u{a0}000"]);
        assert_eq!(labels(&[-1.0, 1.0], false), ["-1.0", "-0.5", "0", "0.5", "1.0"]);
        assert_eq!(labels(&[0.0, 3e9], false), ["0", "1e9", "2e9", "3e9"]);
        assert_eq!(labels(&[-3e-15, 2e-15], false), ["-3e-15", "-2e-15", "-1e-15", "0", "1e-15", "2e-15"]);
        assert_eq!(labels(&[1e-3, 1e3], true), ["0.01", "1", "100"]);
        assert_eq!(labels(&[2.0, 11.0], true), ["2", "5", "10"]);
        assert_eq!(labels(&[3.1, 3.3], true), ["3.10", "3.15", "3.20", "3.25", "3.30"]);
    }

    #[test]
    fn numbers_at_the_ends_of_what_there_is_have_an_axis_too() {
        for values in [
            vec![f64::MIN, f64::MAX],
            vec![f64::MAX, f64::MAX],
            vec![0.0],
            vec![5e-324, 1e-323],
            vec![1.0, 1.0 + f64::EPSILON],
            vec![1e300, 1e300 * (1.0 + 1e-9)],
        ] {
            let labels = labels(&values, false);
            let distinct: std::collections::BTreeSet<_> = labels.iter().collect();
            assert!(distinct.len() == labels.len() && labels.len() <= TICKS, "{values:?}: {labels:?}");
        }
        labels(&[5e-324, f64::MAX], true);
        assert!(Axis::new(std::iter::empty(), false, 0.0).is_none());
    }
}
