//! eˣ as straight-line arithmetic, which the compiler turns into vector instructions; the C library's is a
//! call per element.
//!
//! `x = n·ln 2 + r` with `|r| ≤ ln 2/2` (Cody & Waite 1980), the Taylor polynomial of `eʳ`, and `2ⁿ` by its
//! exponent bits.
//!
//! Relative error in units of the unit round-off u, for arguments between the limits: `x − n·HIGH` is exact
//! because n·HIGH is (Sterbenz 1974), so r is off by its last rounding and those of n·LOW, at most 0.35 +
//! 2·0.03 (f32). The polynomial's outer two Horner steps `1 + r·(1 + r·p)` round four numbers of at most
//! 1.42, 0.42, 1.2 and 0.21, which with the inner ones' share comes to 2.4 of a result of at least 0.7.
//! Truncation adds `|r|^k/k!` for the first power left out: 0.09 (f32, k = 8), 0.04 (f64, k = 14). Together
//! less than 3.

/// The exponential function of an element type.
pub(crate) trait Exponential {
    /// eˣ to within 3 units of round-off. Below about −87 (f32) or −708 (f64), where the result leaves the
    /// normal numbers, it is 0; arguments above 88 or 709 count as those.
    #[must_use]
    fn exp(self) -> Self;
}

macro_rules! exponential {
    ($float:ident, mantissa: $mantissa:literal, bias: $bias:literal, limits: $low:literal..$high:literal,
     ln_2: $ln_2_high:expr, $ln_2_low:expr, factorials: $($factorial:literal)*) => {
        impl Exponential for $float {
            #[inline]
            fn exp(self) -> Self {
                // Adding it rounds to an integer, which then stands in the low bits of the sum.
                const ROUNDER: $float = 1.5 * (1_u64 << $mantissa) as $float;
                // Comparisons that NaN fails let NaN through.
                let x = if self > $high { $high } else { self };
                let shifted = x * std::$float::consts::LOG2_E + ROUNDER;
                let n = shifted - ROUNDER;
                let r = (x - n * ($ln_2_high)) - n * ($ln_2_low);
                let power = 0.0;
                $(let power = power * r + 1.0 / $factorial;)*
                let two_to_the_n = Self::from_bits(shifted.to_bits().wrapping_add($bias) << $mantissa);
                if x < $low { 0.0 } else { power * two_to_the_n }
            }
        }
    };
}

exponential!(f32, mantissa: 23, bias: 127, limits: -87.0..88.0,
    ln_2: 355.0 / 512.0, -2.121_944_4e-4,
    factorials: 5040.0 720.0 120.0 24.0 6.0 2.0 1.0 1.0);
exponential!(f64, mantissa: 52, bias: 1023, limits: -708.0..709.0,
    ln_2: 22713.0 / 32768.0, 1.428_606_820_309_417_3e-6,
    factorials: 6_227_020_800.0 479_001_600.0 39_916_800.0 3_628_800.0 362_880.0 40_320.0 5040.0 720.0 120.0 24.0 6.0 2.0
        1.0 1.0);

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the C library's f64, which is right to 0.6 units.
    #[test]
    fn the_error_is_below_three_units_of_round_off() {
        let (mut worst_f32, mut worst_f64) = (0.0_f64, 0.0_f64);
        for step in 0..2_000_000_u32 {
            let x = -87.0 + 175.0 * f64::from(step) / 2e6;
            #[expect(clippy::cast_possible_truncation, reason = "an f32 near x is what is looked for")]
            let single = x as f32;
            let relative = |actual: f64, x: f64| (actual / x.exp() - 1.0).abs();
            worst_f32 = worst_f32.max(relative(f64::from(Exponential::exp(single)), f64::from(single)));
            let wide = 8.0 * x;
            worst_f64 = worst_f64.max(relative(Exponential::exp(wide), wide));
        }
        let (u_f32, u_f64) = (f64::from(f32::EPSILON) / 2.0, f64::EPSILON / 2.0);
        assert!(worst_f32 < 3.0 * u_f32, "f32: {} units", worst_f32 / u_f32);
        // Two more for the quotient and the C library.
        assert!(worst_f64 < 5.0 * u_f64, "f64: {} units", worst_f64 / u_f64);
    }

    #[test]
    fn the_ends_of_the_range_are_zero_the_largest_and_nan() {
        assert_eq!(Exponential::exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(Exponential::exp(f64::NEG_INFINITY).to_bits(), 0);
        assert_eq!(Exponential::exp(-88.0_f32).to_bits(), 0);
        assert_eq!(Exponential::exp(0.0_f32).to_bits(), 1.0_f32.to_bits());
        assert_eq!(Exponential::exp(0.0_f64).to_bits(), 1.0_f64.to_bits());
        assert!(Exponential::exp(f32::INFINITY).is_finite() && Exponential::exp(1e5_f32) > 1e38);
        assert!(Exponential::exp(f64::INFINITY).is_finite() && Exponential::exp(1e5_f64) > 1e307);
        assert!(Exponential::exp(f32::NAN).is_nan() && Exponential::exp(f64::NAN).is_nan());
    }
}
