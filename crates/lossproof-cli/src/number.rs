//! Numbers as people read them.

use lossproof_spec::Fraction;
use num_traits::ToPrimitive;

/// Between digits that belong together: a space at which no line is broken.
pub(crate) const NO_BREAK: char = '\u{a0}';

/// A non-negative integer with its digits in groups of three: `516 096`.
#[expect(clippy::needless_pass_by_value, reason = "any integer, and big ones by reference")]
pub(crate) fn grouped(integer: impl ToString) -> String {
    let digits = integer.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(NO_BREAK);
        }
        text.push(digit);
    }
    text
}

/// An exact non-negative fraction: `63`, `1/516 096`.
pub(crate) fn fraction(value: &Fraction) -> String {
    if value.is_integer() {
        grouped(value.numer())
    } else {
        format!("{}/{}", grouped(value.numer()), grouped(value.denom()))
    }
}

/// Two different positive fractions as decimals, with two significant digits or as many as tell them apart:
/// `0.57…1.7`.
pub(crate) fn range(low: &Fraction, high: &Fraction) -> String {
    let (low, high) = (to_f64(low), to_f64(high));
    let digits = (2..17).find(|&digits| decimal(low, digits) != decimal(high, digits)).unwrap_or(17);
    format!("{}…{}", decimal(low, digits), decimal(high, digits))
}

/// The nearest f64.
pub(crate) fn to_f64(value: &Fraction) -> f64 {
    value.to_f64().expect("invariant: a fraction rounds to some f64")
}

/// A positive number with `digits` significant digits, its trailing zeros left out.
fn decimal(value: f64, digits: i32) -> String {
    let magnitude = value.log10().floor();
    if magnitude < -4.0 {
        return format!("{value:.*e}", usize::try_from(digits - 1).unwrap_or(0));
    }
    // The whole part is never rounded away: 516096, not 516000.
    #[expect(clippy::cast_possible_truncation, reason = "the decimal exponent of an f64 is at most 308")]
    let decimals = usize::try_from(digits - 1 - magnitude as i32).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    match text.split_once('.') {
        None => grouped(text),
        Some((whole, part)) => match part.trim_end_matches('0') {
            "" => grouped(whole),
            part => format!("{}.{part}", grouped(whole)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(numerator: i64, denominator: i64) -> Fraction {
        Fraction::new(numerator.into(), denominator.into())
    }

    #[test]
    fn digits_are_grouped_by_three_without_a_place_to_break() {
        let plain = |text: String| text.replace(NO_BREAK, "_");
        assert_eq!(plain(grouped(63)), "63");
        assert_eq!(plain(grouped(516_096)), "516_096");
        assert_eq!(plain(grouped(1_000)), "1_000");
        assert_eq!(plain(fraction(&ratio(2, 1_032_192))), "1/516_096");
        assert_eq!(plain(fraction(&ratio(126, 2))), "63");
    }

    #[test]
    fn a_range_has_as_many_digits_as_it_needs() {
        let plain = |low, high| range(&low, &high).replace(NO_BREAK, "_");
        assert_eq!(plain(ratio(4, 7), ratio(12, 7)), "0.57…1.7");
        assert_eq!(plain(ratio(1, 2), ratio(10, 1)), "0.5…10");
        assert_eq!(plain(ratio(999_999, 1_000_000), ratio(1, 1)), "0.999999…1");
        assert_eq!(plain(ratio(3, 1_000_000), ratio(516_096, 5)), "3.0e-6…103_219");
    }
}
