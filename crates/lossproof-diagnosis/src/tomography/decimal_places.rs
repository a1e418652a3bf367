//! What is known of losses that a trainer rounds before it logs them.

/// Half of a unit in the last decimal place, where all of these losses are rounded to one, as some trainers round what
/// they log; 0 where they are not. They are known to `precision`.
pub(super) fn half_of_a_place(losses: &[f64], precision: f64) -> f64 {
    // By chance a loss is within a twentieth of a place of a whole number of places in one case of ten. What is the
    // same loss again says nothing.
    const ENOUGH: usize = 6;
    const NEAR: f64 = 0.05;
    let largest = losses.iter().fold(1.0_f64, |largest, loss| largest.max(loss.abs()));
    let mut losses = losses.to_vec();
    losses.sort_by(f64::total_cmp);
    losses.dedup_by(|one, other| (*one - *other).abs() <= precision * largest);
    for decimals in 0..=12 {
        let unit = 10.0_f64.powi(-decimals);
        if losses.len() < ENOUGH || NEAR * unit < precision * largest {
            return 0.0;
        }
        let whole = |loss: f64| (loss / unit - (loss / unit).round()).abs() * unit <= precision * largest;
        if losses.iter().all(|&loss| whole(loss)) {
            return unit / 2.0;
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_rounded_is_known_to_its_last_place() {
        let exact: Vec<f64> = (1..=9_u32).map(|number| 1.0 + f64::from(number).ln()).collect();
        assert!(half_of_a_place(&exact, 1e-15).abs() <= 0.0);
        let rounded: Vec<f64> = exact.iter().map(|loss| (loss * 1e4).round() / 1e4).collect();
        assert!((half_of_a_place(&rounded, 1e-15) - 5e-5).abs() < 1e-18);
        // In single precision the digits of seven places are rounding.
        assert!(half_of_a_place(&exact, 6e-8).abs() <= 0.0);
        assert!(half_of_a_place(&rounded[..4], 1e-15).abs() <= 0.0, "too few to tell");
    }
}
