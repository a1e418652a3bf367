//! Learning rates over a run, by the formulas of Hugging Face's `transformers.optimization`.
//!
//! With `t` ticks of the schedule so far, `W` of warm-up and `T` in all, the learning rate is the base rate times a
//! factor. During warm-up (`t < W`) the factor is `t/max(1, W)`; after it
//!
//! | schedule | factor |
//! |---|---|
//! | constant | 1 |
//! | linear | `max(0, (T − t)/max(1, T − W))` |
//! | cosine | `max(0, (1 + cos(π·p))/2)` with `p = (t − W)/max(1, T − W)` |
//! | polynomial | `((lr − 1e-7)·(1 − (t − W)/(T − W)) + 1e-7)/lr`, and `1e-7/lr` after `T`: power 1, as by default there |
//! | inverse square root | `1/√((t + s)/τ)`, `τ` being `W`, or 10 000 without warm-up, and `s = τ − W` |

use serde::{Deserialize, Serialize};

/// How the learning rate changes over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The base rate throughout, after the warm-up (`get_constant_schedule_with_warmup`).
    Constant,
    /// In a line to zero (`get_linear_schedule_with_warmup`).
    #[default]
    Linear,
    /// Half a cosine to zero (`get_cosine_schedule_with_warmup`).
    Cosine,
    /// In a line to 1e-7 (`get_polynomial_decay_schedule_with_warmup` of power 1).
    Polynomial,
    /// With the inverse square root of time (`get_inverse_sqrt_schedule`).
    InverseSquareRoot,
}

/// Where the polynomial schedule ends.
pub(crate) const POLYNOMIAL_END: f64 = 1e-7;

/// `τ` of the inverse square root without warm-up.
const TIMESCALE: u64 = 10_000;

impl Schedule {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Constant, Self::Linear, Self::Cosine, Self::Polynomial, Self::InverseSquareRoot];

    /// The learning rate after `tick` ticks of the schedule, `warm_up` of `total` being warm-up.
    ///
    /// ```
    /// use lossproof_loop::Schedule;
    /// let rates = [0, 1, 2, 3, 4].map(|tick| Schedule::Linear.rate(0.5, tick, 2, 4));
    /// assert_eq!(rates, [0.0, 0.25, 0.5, 0.25, 0.0]);
    /// ```
    #[must_use]
    pub fn rate(self, base: f64, tick: u64, warm_up: u64, total: u64) -> f64 {
        base * self.factor(base, tick, warm_up, total)
    }

    fn factor(self, base: f64, tick: u64, warm_up: u64, total: u64) -> f64 {
        let [t, w] = [tick, warm_up].map(|count| count as f64);
        if tick < warm_up {
            return t / w.max(1.0);
        }
        let decaying = total.saturating_sub(warm_up).max(1) as f64;
        match self {
            Self::Constant => 1.0,
            Self::Linear => (total.saturating_sub(tick) as f64 / decaying).max(0.0),
            Self::Cosine => {
                let progress = (t - w) / decaying;
                // As there: half a cycle, written as two times a half.
                (0.5 * (1.0 + (std::f64::consts::PI * 0.5 * 2.0 * progress).cos())).max(0.0)
            }
            Self::Polynomial if tick > total => POLYNOMIAL_END / base,
            Self::Polynomial => {
                let remaining = 1.0 - (t - w) / decaying;
                ((base - POLYNOMIAL_END) * remaining + POLYNOMIAL_END) / base
            }
            Self::InverseSquareRoot => {
                let timescale = if warm_up == 0 { TIMESCALE } else { warm_up };
                let shifted = (tick + timescale - warm_up) as f64;
                1.0 / (shifted / timescale as f64).sqrt()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 4.0 * f64::EPSILON * expected.abs(), "{found} for {expected}");
    }

    #[test]
    fn every_schedule_warms_up_from_zero_to_the_base_rate() {
        for schedule in Schedule::ALL {
            close(schedule.rate(0.3, 0, 4, 20), 0.0);
            close(schedule.rate(0.3, 2, 4, 20), 0.15);
            close(schedule.rate(0.3, 4, 4, 20), 0.3);
        }
    }

    #[test]
    fn schedules_end_where_their_formulas_say() {
        for (schedule, end) in
            [(Schedule::Constant, 0.3), (Schedule::Linear, 0.0), (Schedule::Polynomial, POLYNOMIAL_END)]
        {
            close(schedule.rate(0.3, 20, 4, 20), end);
        }
        assert!(Schedule::Cosine.rate(0.3, 20, 4, 20) < 1e-16);
        close(Schedule::Cosine.rate(0.3, 12, 4, 20), 0.15);
        close(Schedule::InverseSquareRoot.rate(0.3, 16, 4, 20), 0.15);
        close(Schedule::InverseSquareRoot.rate(0.3, 30_000, 0, 20), 0.15);
        close(Schedule::Polynomial.rate(0.3, 50, 4, 20), POLYNOMIAL_END);
        close(Schedule::Linear.rate(0.3, 50, 4, 20), 0.0);
    }
}
