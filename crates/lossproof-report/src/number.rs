//! Numbers as people read them: in tables, beside axes, and as coordinates.

/// A number in a table: whole, with four significant digits, or with an exponent.
pub(crate) fn short(value: f64) -> String {
    rounded(value, 4)
}

/// A number with so many significant digits, more where its whole part has more, or with an exponent.
pub(crate) fn rounded(value: f64, digits: i32) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        return not_finite(value).to_owned();
    }
    if magnitude.fract() == 0.0 && magnitude < 1e15 {
        // Without the sign of a zero.
        return format!("{}", value + 0.0);
    }
    if (1e-3..1e6).contains(&magnitude) {
        let text = format!("{:.*}", decimals_for(magnitude, digits), value);
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    format!("{value:.1e}")
}

/// A number as it is, with the digits that give it back.
pub(crate) fn exact(value: f64) -> String {
    if !value.is_finite() {
        return not_finite(value).to_owned();
    }
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-5..1e17).contains(&magnitude) {
        format!("{}", value + 0.0)
    } else {
        format!("{value:e}")
    }
}

/// How a number that is not finite is written, in JSON lines too.
pub(crate) fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "inf"
    } else {
        "-inf"
    }
}

/// Digits in groups of three where they are five or more in front of the point, with spaces that break no
/// line.
pub(crate) fn grouped(digits: &str) -> String {
    let whole = digits.split('.').next().unwrap_or(digits).trim_start_matches('-').len();
    if whole < 5 {
        return digits.to_owned();
    }
    let sign = digits.len() - digits.trim_start_matches('-').len();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        let passed = index.saturating_sub(sign);
        if passed > 0 && passed < whole && (whole - passed).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// A coordinate of a drawing, with one decimal.
pub(crate) fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The decimals that leave a positive number with `digits` significant digits, none of its whole part rounded
/// away.
#[expect(clippy::cast_possible_truncation, reason = "the decimal exponent of an f64 is at most 308")]
fn decimals_for(magnitude: f64, digits: i32) -> usize {
    usize::try_from(digits - 1 - magnitude.log10().floor() as i32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_tables_are_short() {
        for (value, text) in [
            (256.0, "256"),
            (-0.0, "0"),
            (2.1e-15, "2.1e-15"),
            (0.083_333_333, "0.08333"),
            (0.25, "0.25"),
            (1234.56, "1235"),
            (1.5e9, "1500000000"),
            (1.5e300, "1.5e300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn long_numbers_are_grouped() {
        for (digits, text) in [("1234", "1234"), ("-12345.67890", "-12 345.67890"), ("1234567", "1 234 567")]
        {
            assert_eq!(grouped(digits), text.replace(' ', "\u{a0}"));
        }
    }

    #[test]
    fn exact_numbers_are_given_back_to_the_bit() {
        for value in [1.0 / 3.0, 5e-324, f64::MAX, -2.5, 1e17, 123_456_789.125] {
            assert_eq!(exact(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }

    #[test]
    fn coordinates_have_no_negative_zero() {
        assert_eq!(coordinate(-0.01), "0");
        assert_eq!(coordinate(12.34), "12.3");
    }
}
