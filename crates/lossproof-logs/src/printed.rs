//! A number as it was printed, and how many places a column was printed to.

use std::collections::BTreeSet;

/// A number, the decimal exponent of the last place it was printed to (`3.20` is 3.2 to −2), and its
/// significant digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Printed {
    pub(crate) value: f64,
    /// `None` where it is no finite number, or all its digits are known to be there.
    pub(crate) last_place: Option<i32>,
    /// Digits from the first that is not zero.
    pub(crate) digits: usize,
}

impl Printed {
    /// A number whose digits are all there.
    pub(crate) fn exact(value: f64) -> Self {
        Self { value, last_place: None, digits: 0 }
    }

    /// A number in decimal notation, with or without an exponent, or a word that stands for one that is not finite.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim_start_matches(['-', '+']).to_ascii_lowercase().as_str() {
            "nan" => return Some(Self::exact(f64::NAN)),
            "inf" | "infinity" => {
                let infinite = if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
                return Some(Self::exact(infinite));
            }
            _ => {}
        }
        let value: f64 = text.parse().ok()?;
        if !value.is_finite() {
            return Some(Self::exact(value));
        }
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let decimals = mantissa.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let exponent: i32 = exponent.parse().ok()?;
        let last_place = exponent.checked_sub(i32::try_from(decimals).ok()?);
        let digits = mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|&digit| digit == b'0').count();
        Some(Self { value, last_place, digits })
    }
}

/// By how much a printed number may differ from the one that was computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Resolution {
    /// By this, where a column has so many decimals.
    pub absolute: f64,
    /// By this times the number, where it has so many significant digits.
    pub relative: f64,
}

impl Resolution {
    /// Of one number of the column.
    #[must_use]
    pub fn of(&self, value: f64) -> f64 {
        self.absolute + self.relative * value.abs()
    }
}

/// To how many places the numbers of a column were printed.
///
/// A program that prints the shortest digits that give a number back (`0.1`, `1e-05`) rounds nothing, and a number by
/// itself does not tell it from one that was rounded. A column was rounded when several numbers of it end in the same
/// place, and none in a finer one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    count: usize,
    distinct: BTreeSet<u64>,
    finest: Option<(i32, usize)>,
    most_digits: (usize, usize),
    /// The coarsest and the finest last place of those with most digits.
    range_of_most: Option<(i32, i32)>,
}

/// Distinct numbers that a column needs to tell how it was rounded.
const FEWEST: usize = 3;
/// More digits than these are all the digits of a number in single precision.
const ROUNDED_DIGITS: usize = 8;

impl Places {
    pub(crate) fn add(&mut self, number: Printed) {
        let Some(place) = number.last_place.filter(|_| number.value != 0.0) else { return };
        self.count += 1;
        if self.distinct.len() < FEWEST {
            self.distinct.insert(number.value.to_bits());
        }
        self.finest = Some(match self.finest {
            Some((finest, _)) if place < finest => (place, 1),
            Some((finest, count)) => (finest, count + usize::from(place == finest)),
            None => (place, 1),
        });
        if number.digits > self.most_digits.0 {
            self.most_digits = (number.digits, 0);
            self.range_of_most = None;
        }
        if number.digits == self.most_digits.0 {
            self.most_digits.1 += 1;
            let (coarsest, finest) = self.range_of_most.unwrap_or((place, place));
            self.range_of_most = Some((coarsest.max(place), finest.min(place)));
        }
    }

    /// What was lost of each number. `always_padded` says that trailing zeros are printed, so that every number tells.
    pub(crate) fn resolution(&self, always_padded: bool) -> Resolution {
        let Some((finest, at_finest)) = self.finest else { return Resolution::default() };
        let most = |count: usize| 2 * count >= self.count;
        let fixed =
            Resolution { absolute: if finest < 0 { 0.5 * 10_f64.powi(finest) } else { 0.0 }, relative: 0.0 };
        if always_padded {
            return fixed;
        }
        if self.distinct.len() < FEWEST {
            return Resolution::default();
        }
        let (digits, with_most) = self.most_digits;
        let several_places = self.range_of_most.is_some_and(|(coarsest, finest)| coarsest != finest);
        if several_places && most(with_most) && (2..=ROUNDED_DIGITS).contains(&digits) {
            let exponent = i32::try_from(digits).unwrap_or(i32::MAX);
            return Resolution { absolute: 0.0, relative: 0.5 * 10_f64.powi(1 - exponent) };
        }
        if most(at_finest) { fixed } else { Resolution::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<i32> {
        Printed::parse(text).unwrap().last_place
    }

    fn resolution(column: &[&str]) -> Resolution {
        let mut places = Places::default();
        for text in column {
            places.add(Printed::parse(text).unwrap());
        }
        places.resolution(false)
    }

    #[test]
    fn the_last_place_is_that_of_the_text() {
        let places = ["3.20", "-17", "4.9e-05", "1E3"].map(place);
        assert_eq!(places, [Some(-2), Some(0), Some(-6), Some(3)]);
        let infinite = Printed::parse("-Infinity").unwrap().value;
        assert!(infinite.is_infinite() && infinite.is_sign_negative());
        assert!(Printed::parse("NaN").unwrap().value.is_nan() && place("nan").is_none());
        assert!(Printed::parse("1.2.3").is_none() && Printed::parse("").is_none());
        assert_eq!(place("1e400"), None);
        // An exponent that no exponent of a place can be.
        assert_eq!(Printed::parse("0e-99999999999999"), None);
        assert_eq!(place("0.0e-2147483648"), None);
        assert_eq!(Printed::parse("-0.0250").unwrap().digits, 3);
    }

    #[test]
    fn a_column_of_so_many_decimals_lost_what_is_behind_them() {
        let same = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        // Trailing zeros are left out of one.
        let rounded = resolution(&["3.2", "3.1415", "3.1001", "3.0874"]);
        same(rounded.absolute, 0.5e-4);
        same(rounded.relative, 0.0);
        same(resolution(&["7", "12", "5"]).absolute, 0.0);
    }

    #[test]
    fn the_shortest_digits_of_a_number_lost_nothing() {
        assert_eq!(resolution(&["1e-05", "1e-05", "1e-05", "1e-05"]), Resolution::default());
        assert_eq!(resolution(&["0.1", "0.2"]), Resolution::default());
        assert_eq!(resolution(&[]), Resolution::default());
    }

    #[test]
    fn a_column_of_so_many_significant_digits_lost_a_part_of_each_number() {
        let rounded = resolution(&["12.3", "1.25", "0.998", "104", "9.87"]);
        assert!((rounded.relative - 0.5e-2).abs() < 1e-12 && rounded.absolute == 0.0, "{rounded:?}");
    }
}
