//! Judging one comparison: whether it holds, how close it came, how small an error it is certain to catch.

use std::cmp::Ordering;

/// A comparison weaker than this checks nothing: an error of 1 % would pass.
const WEAKEST: f64 = 1e-2;

/// The negative control scales by 1 plus this many times the power.
const CONTROL: f64 = 4.0;

/// What a comparison is certain to catch.
#[derive(Clone, Copy, Debug)]
pub struct Strength {
    /// The smallest relative error; infinite where it is none to speak of.
    pub power: f64,
    /// Whether the negative control was caught.
    pub caught: bool,
}

impl Strength {
    /// Of a comparison held to `bound`. `error(factor)` is the error when the judged quantity is multiplied by `factor`, `now`
    /// is `error(1)`; `effect` is how much that error grows per relative change: `error(1 + δ) ≥ effect·δ − error(1)`.
    ///
    /// Certain to be caught is therefore a relative error of `(bound + error(1))/effect`: the power.
    pub fn of(bound: f64, effect: f64, now: f64, error: impl Fn(f64) -> f64) -> Self {
        let power = (bound + now) / effect;
        if power.is_finite() && power <= WEAKEST {
            Self { power, caught: exceeds(error(1.0 + CONTROL * power), bound) }
        } else {
            Self { power: f64::INFINITY, caught: false }
        }
    }

    /// The stronger of two, this one where they are equally strong.
    pub fn or(self, other: Self) -> Self {
        if other.power < self.power { other } else { self }
    }
}

/// Whether an error breaks a bound; NaN on either side does.
pub fn exceeds(error: f64, bound: f64) -> bool {
    error.partial_cmp(&bound).is_none_or(Ordering::is_gt)
}

/// How much of its bound an error takes; infinite when it is not finite.
pub fn closeness(error: f64, bound: f64) -> f64 {
    match error / bound {
        _ if !error.is_finite() => f64::INFINITY,
        // Zero of zero: an equality to the bit that holds.
        ratio if ratio.is_nan() => 0.0,
        ratio => ratio,
    }
}
