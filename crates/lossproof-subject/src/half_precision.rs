//! Numbers of half precision, widened.

/// The number that these bits are in bf16: the upper half of an f32.
pub(crate) fn of_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The number that these bits are in IEEE 754's binary16. Each of them is a number of f32 too.
pub(crate) fn of_f16(bits: u16) -> f32 {
    let (exponent, fraction) = (bits >> 10 & 0x1f, f32::from(bits & 0x3ff) / 1024.0);
    let size = match exponent {
        0 => fraction * 2.0_f32.powi(-14),
        0x1f if fraction > 0.0 => f32::NAN,
        0x1f => f32::INFINITY,
        _ => (1.0 + fraction) * 2.0_f32.powi(i32::from(exponent) - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_numbers_of_half_precision_are_those_of_the_library_for_them() {
        let same = |found: f32, expected: f32| {
            found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
        };
        for bits in 0..=u16::MAX {
            assert!(same(of_bf16(bits), half::bf16::from_bits(bits).to_f32()), "bf16 {bits:#x}");
            assert!(same(of_f16(bits), half::f16::from_bits(bits).to_f32()), "f16 {bits:#x}");
        }
    }
}
