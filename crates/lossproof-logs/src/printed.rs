//! A number as it was printed, and how many places it was printed to.

/// A number, and the decimal exponent of the last place it was printed to: `3.20` is 3.2 to −2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Printed {
    pub(crate) value: f64,
    /// `None` where it is no finite number.
    pub(crate) last_place: Option<i32>,
}

impl Printed {
    /// A number in decimal notation, with or without an exponent, or a word that stands for one that is not finite.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim_start_matches(['-', '+']).to_ascii_lowercase().as_str() {
            "nan" => return Some(Self { value: f64::NAN, last_place: None }),
            "inf" | "infinity" => {
                let value = if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
                return Some(Self { value, last_place: None });
            }
            _ => {}
        }
        let value: f64 = text.parse().ok()?;
        if !value.is_finite() {
            return Some(Self { value, last_place: None });
        }
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let decimals = mantissa.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let exponent: i32 = exponent.parse().ok()?;
        let last_place = exponent.checked_sub(i32::try_from(decimals).ok()?);
        Some(Self { value, last_place })
    }
}

/// Half of the finest last place among the numbers of a column: trailing zeros are often left out, so one number
/// alone does not tell to how many places all were rounded. Whole numbers alone tell nothing.
pub(crate) fn resolution(last_places: impl Iterator<Item = i32>) -> f64 {
    match last_places.min() {
        Some(finest) if finest < 0 => 0.5 * 10_f64.powi(finest),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<i32> {
        Printed::parse(text).unwrap().last_place
    }

    #[test]
    fn the_last_place_is_that_of_the_text() {
        assert_eq!(
            [place("3.20"), place("-17"), place("4.9e-05"), place("1E3")],
            [Some(-2), Some(0), Some(-6), Some(3)]
        );
        let infinite = Printed::parse("-Infinity").unwrap().value;
        assert!(infinite.is_infinite() && infinite.is_sign_negative());
        assert!(Printed::parse("NaN").unwrap().value.is_nan() && place("nan").is_none());
        assert!(Printed::parse("1.2.3").is_none() && Printed::parse("").is_none());
        assert_eq!(place("1e400"), None);
        // An exponent that no exponent of a place can be.
        assert_eq!(Printed::parse("0e-99999999999999"), None);
        assert_eq!(place("0.0e-2147483648"), None);
    }

    #[test]
    fn a_column_is_as_fine_as_its_finest_number() {
        let same = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        same(resolution([-1, -4, -2].into_iter()), 0.5e-4);
        same(resolution([0, 0].into_iter()), 0.0);
        same(resolution(std::iter::empty()), 0.0);
    }
}
