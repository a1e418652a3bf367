//! Comparisons that are too coarse one by one, judged by their mean over many contexts.
//!
//! In half precision one gradient is wrong by percents, and no comparison of two says much. But rounding has no
//! preferred sign: made again and again, with other tokens and parameters each time, a comparison that is right
//! is off to both sides alike, and one that is wrong by a factor is off to one side.
//!
//! Let `e_1 … e_n` be independent numbers of symmetric distributions. By Hoeffding's inequality, applied to the signs
//! with the sizes given (Efron, *Student's t-test under symmetry conditions*, JASA 64, 1969),
//!
//! ```text
//! P(|Σ e_k| > q·√(Σ e_k²)) ≤ 2·exp(−q²/2)
//! ```
//!
//! whatever the distributions are, different ones and with heavy tails included. With their deviation `s(e)` from
//! their mean that is `|mean e| > q·s(e)/√(n − q²)`. A comparison is off by `d_k = e_k + b_k`, with a bias of at
//! most b; so
//!
//! ```text
//! |mean d| ≤ b + q·(s(d) + b)/√(n − q²)
//! ```
//!
//! but for that probability. Nothing is assumed of how large a rounding error is: the deviations themselves say it. A
//! factor on what is judged moves the mean and leaves `s(d)`, so that the power is that of any comparison.

use crate::{Comparisons, Control, Unit, Violation, bounds::LAMBDA};
use std::collections::{BTreeMap, btree_map::Entry};

/// `q`: an honest comparison is convicted with a probability of at most `2·exp(−q²/2)` = 1e-10, so that ten thousand
/// of them are with at most 1e-6.
pub const QUANTILE: f64 = 6.887;

/// Contexts in which a comparison is made: far more than `q²` = 47.4, below which no mean convicts.
pub const CONTEXTS: usize = 128;

/// The bias that a product of two rounded numbers may have, where a single comparison has this bound: the square of a
/// relative error, which is expected to be a λ-th of the bound.
#[must_use]
pub fn bias(bound: f64) -> f64 {
    (bound / LAMBDA).powi(2)
}

/// What one comparison is off by in one context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviation {
    /// With its sign, relative to the scale of the comparison.
    pub value: f64,
    /// How much it grows per relative change of what is judged.
    pub effect: f64,
    /// What it may be off by to one side, in all contexts alike.
    pub bias: f64,
    /// The largest power that still checks something.
    pub weakest: f64,
}

/// One comparison of a law, in all contexts so far.
#[derive(Clone, Debug)]
struct Averaged {
    statement: String,
    deviations: Vec<Deviation>,
}

/// The comparisons of a law that are to be judged by their mean. In every context a law makes the same ones in the
/// same order.
#[derive(Clone, Debug, Default)]
pub struct Averages {
    /// By what is to be certified, and its number among those of the same in one context.
    averaged: BTreeMap<(String, usize), Averaged>,
    /// Comparisons so far in this context, by what is to be certified.
    made: BTreeMap<String, usize>,
}

impl Averages {
    /// Whether nothing is to be judged so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.averaged.is_empty()
    }

    /// Begins another context.
    pub fn begin(&mut self) {
        self.made.clear();
    }

    /// Takes the deviation of the next comparison in this context. What is compared is said by the first one.
    pub fn note(&mut self, unit: &str, deviation: Deviation, statement: impl FnOnce() -> String) {
        let made = self.made.entry(unit.to_owned()).or_default();
        let key = (unit.to_owned(), *made);
        *made += 1;
        match self.averaged.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Averaged { statement: statement(), deviations: vec![deviation] });
            }
            Entry::Occupied(mut entry) => entry.get_mut().deviations.push(deviation),
        }
    }

    /// Holds each mean to its bound, and adds what that certifies.
    pub fn judge(&self, comparisons: &mut Comparisons) {
        for ((unit, _), averaged) in &self.averaged {
            averaged.judge(unit, comparisons);
        }
    }
}

impl Averaged {
    fn judge(&self, unit: &str, comparisons: &mut Comparisons) {
        let count = self.deviations.len() as f64;
        let of = |part: fn(&Deviation) -> f64| self.deviations.iter().map(part);
        let mean = of(|deviation| deviation.value).sum::<f64>() / count;
        let effect = of(|deviation| deviation.effect).sum::<f64>() / count;
        let apart = self.deviations.iter().map(|deviation| (deviation.value - mean).powi(2));
        let spread = (apart.sum::<f64>() / count).sqrt();
        let bias = of(|deviation| deviation.bias).fold(0.0, f64::max);
        // In fewer contexts than `q²` nothing can be said.
        let beyond = (count - QUANTILE * QUANTILE).max(0.0);
        let bound = bias + QUANTILE * (spread + bias) / beyond.sqrt();
        let finite = mean.is_finite() && spread.is_finite();
        if beyond <= 0.0 && finite {
            return comparisons.require(unit);
        }
        comparisons.hold(unit, bound, mean.abs(), || Violation {
            unit: unit.to_owned(),
            statement: format!("{}, on average over {count} contexts", self.statement),
            error: mean.abs(),
            bound,
            pair: None,
            ratio: Some(1.0 + mean / effect).filter(|ratio| ratio.is_finite()),
        });
        let power = (bound + mean.abs()) / effect;
        let weakest = of(|deviation| deviation.weakest).fold(f64::INFINITY, f64::min);
        let power = if power <= weakest { power } else { f64::INFINITY };
        comparisons.certify(unit, Unit { power, control: Control::Factor });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WEAKEST;
    use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

    fn judged(deviations: impl IntoIterator<Item = f64>) -> Comparisons {
        let mut averages = Averages::default();
        for value in deviations {
            averages.begin();
            averages
                .note("x", Deviation { value, effect: 1.0, bias: 0.0, weakest: WEAKEST }, || "x".to_owned());
        }
        let mut comparisons = Comparisons::default();
        averages.judge(&mut comparisons);
        comparisons
    }

    /// Rounding errors of both signs, some of them a thousand times as large as others.
    fn errors(seed: u64) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let error = |_| {
            let size = 10.0_f64.powf(-2.0 - 3.0 * random.random::<f64>());
            size * (2.0 * random.random::<f64>() - 1.0)
        };
        (0..CONTEXTS).map(error).collect()
    }

    #[test]
    fn what_is_off_to_both_sides_passes_whatever_its_size() {
        assert!((0..10_000).all(|seed| !judged(errors(seed)).is_violated()));
    }

    #[test]
    fn what_is_off_to_one_side_is_convicted_below_the_size_of_the_errors() {
        let found =
            (0..200).filter(|&seed| judged(errors(seed).iter().map(|e| e + 5e-3)).is_violated()).count();
        assert!(found > 190, "{found}");
        // Smaller than anything that was certified.
        let few = judged([1e-3; 40]);
        assert!(!few.is_violated() && few.uncertified() == Some("x"), "too few contexts to tell");
        assert!(judged([1e-9; CONTEXTS]).is_violated());
    }

    #[test]
    fn what_is_no_number_is_a_violation() {
        assert!(judged([0.0, f64::NAN]).is_violated());
        assert!(judged([0.0, f64::INFINITY]).is_violated());
    }

    #[test]
    fn the_power_is_the_smallest_factor_that_is_certain_to_be_caught() {
        let power = judged(errors(1)).power().expect("by degree");
        assert!(power < 1e-2, "{power}");
        assert!(judged(errors(1).iter().map(|e| e + 4.0 * power)).is_violated());
    }

    #[test]
    fn the_quantile_is_that_of_its_probability() {
        assert!(2.0 * (-QUANTILE * QUANTILE / 2.0).exp() <= 1.01e-10);
    }
}
