//! Judging one comparison: whether it holds, how close it came, how small an error it is certain to catch.

use std::cmp::Ordering;

/// A comparison weaker than this checks nothing: an error of 1 % would pass.
pub const WEAKEST: f64 = 1e-2;

/// A negative control changes what is judged by this many times the power.
pub const CONTROL: f64 = 4.0;

/// The smallest relative error that a comparison is certain to catch; infinite where it is none to speak of.
///
/// `error` is the error that was found, held to `bound`, and `effect` is how much it grows per relative
/// change of what is judged: `error(1 + δ) ≥ effect·δ − error`. Certain to be caught is therefore `(bound +
/// error)/effect`.
#[must_use]
pub fn power(bound: f64, effect: f64, error: f64) -> f64 {
    let power = (bound + error) / effect;
    if power.is_finite() && power <= WEAKEST { power } else { f64::INFINITY }
}

/// Whether an error breaks a bound; NaN on either side does.
#[must_use]
pub fn exceeds(error: f64, bound: f64) -> bool {
    error.partial_cmp(&bound).is_none_or(Ordering::is_gt)
}

/// How much of its bound an error takes; infinite when it is not finite.
#[must_use]
pub fn closeness(error: f64, bound: f64) -> f64 {
    match error / bound {
        _ if !error.is_finite() => f64::INFINITY,
        // Zero of zero: an equality to the bit that holds.
        ratio if ratio.is_nan() => 0.0,
        ratio => ratio,
    }
}
