//! What a factor equals on a layout: `0.8621 = 25/29`, supervised tokens over labels before the shift.

use super::Measurement;
use lossproof_spec::{Fraction, Layout, SequenceShape, to_f64};
use num_bigint::BigInt;
use num_traits::{One, Zero};
use std::fmt::Write;

/// A factor that a mistake puts on the weights, and what it is made of on one layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedRatio {
    /// The factor, exact.
    fraction: Fraction,
    /// What it is: `supervised / labels before the shift (25 / 29)`.
    words: String,
}

/// What a factor may be made of and a batch's layout does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeyondLayout {
    /// Tokens of the vocabulary.
    pub vocabulary: Option<usize>,
    /// Micro-batches of the longest window that came before.
    pub longest_window: Option<usize>,
}

/// Something of a layout that a trainer may count, rightly or wrongly.
struct LayoutQuantity {
    name: &'static str,
    count: usize,
}

/// Every factor that has a name on `layout`, but for one itself, from the most to the least specific: a
/// quotient of token counts rarely equals something else by accident, one over the number of ranks often
/// does.
pub(super) fn named_ratios(layout: &Layout, beyond: BeyondLayout) -> Vec<NamedRatio> {
    let quantity = |name, count| LayoutQuantity { name, count };
    let supervised = quantity("supervised", layout.supervised());
    let predictions = quantity("all positions", layout.predictions());
    let first_labels = layout.sequences().filter(|s| s.first_label).count();
    let before_shift = quantity("labels before the shift", layout.supervised().saturating_add(first_labels));
    let padded = quantity("padded positions", padded_positions([layout.sequences().collect()]));
    let padded_apart = quantity(
        "positions padded by micro-batch",
        padded_positions(layout.micro_batches().map(|m| m.iter().collect::<Vec<_>>())),
    );
    let tokens = quantity("tokens", layout.sequences().map(|s| s.positions).sum());
    let sequences = quantity("sequences", layout.sequences().count());
    let has_tokens = |m: &[SequenceShape]| m.iter().any(|s| s.supervised > 0);
    let full_sequences =
        quantity("sequences with a token", layout.sequences().filter(|s| s.supervised > 0).count());
    let micro_batches = quantity("micro-batches", layout.micro_batches().count());
    let full_micro_batches =
        quantity("micro-batches with a token", layout.micro_batches().filter(|m| has_tokens(m)).count());
    let ranks = quantity("ranks", layout.ranks().len());
    let full_ranks = quantity(
        "ranks with a token",
        layout.ranks().iter().filter(|rank| rank.iter().any(|m| has_tokens(m))).count(),
    );

    let mut named = NamedRatios::default();
    for other in [&before_shift, &predictions, &padded_apart, &padded, &tokens] {
        named.quotient(&supervised, other);
    }
    if predictions.count != supervised.count {
        named.quotient(&predictions, &tokens);
    }
    named.quotient(&full_sequences, &sequences);
    named.quotient(&full_micro_batches, &micro_batches);
    named.quotient(&full_ranks, &ranks);
    named.quotient(&sequences, &supervised);
    if let Some(longest) = beyond.longest_window {
        let window = layout.ranks().iter().map(Vec::len).max().unwrap_or(0);
        let of_this = quantity("micro-batches of this window", window);
        named.quotient(&of_this, &quantity("micro-batches of the longest before", longest));
    }
    if let Some(vocabulary) = beyond.vocabulary {
        named.power("V", &quantity("vocabulary", vocabulary), "tokens of the vocabulary", 1);
    }
    named.power("N", &supervised, "supervised tokens", 1);
    named.power("n", &sequences, "sequences", 1);
    let first = layout.ranks()[0].len();
    let per_rank = layout.ranks().iter().all(|rank| rank.len() == first);
    let per_rank = per_rank.then(|| quantity("micro-batches of a rank", first));
    for power in 1..=2 {
        named.power("R", &ranks, "ranks", power);
        if let Some(per_rank) = &per_rank {
            named.power("K", per_rank, "micro-batches of a rank", power);
        }
        named.power(if per_rank.is_some() { "(K·R)" } else { "ΣK" }, &micro_batches, "micro-batches", power);
    }
    named.ratios
}

/// Predictions of these groups of sequences when each is padded to its own longest.
fn padded_positions<'a>(groups: impl IntoIterator<Item = Vec<&'a SequenceShape>>) -> usize {
    let group = |shapes: Vec<&SequenceShape>| {
        let width = shapes.iter().map(|s| s.positions).max().unwrap_or(1);
        shapes.len().saturating_mul(width - 1)
    };
    groups.into_iter().map(group).fold(0, usize::saturating_add)
}

#[derive(Default)]
struct NamedRatios {
    ratios: Vec<NamedRatio>,
}

impl NamedRatios {
    fn push(&mut self, fraction: Fraction, words: String) {
        if !fraction.is_one() && !fraction.is_zero() {
            self.ratios.push(NamedRatio { fraction, words });
        }
    }

    /// `one / other`, and its inverse.
    fn quotient(&mut self, one: &LayoutQuantity, other: &LayoutQuantity) {
        for (above, below) in [(one, other), (other, one)] {
            if below.count > 0 {
                let fraction = Fraction::new(above.count.into(), below.count.into());
                let words = format!("{} / {} ({} / {})", above.name, below.name, above.count, below.count);
                self.push(fraction, words);
            }
        }
    }

    /// `1/count^power`, and its inverse.
    fn power(&mut self, symbol: &str, quantity: &LayoutQuantity, what: &str, power: u32) {
        if quantity.count == 0 {
            return;
        }
        let symbol = if power == 1 { symbol.to_owned() } else { format!("{symbol}²") };
        let whole = Fraction::from_integer(BigInt::from(quantity.count).pow(power));
        let count = quantity.count;
        self.push(whole.recip(), format!("1/{symbol} ({count} {what})"));
        self.push(whole, format!("{symbol} ({count} {what})"));
    }
}

/// What a measured factor equals on `layout`, in words:
/// `0.8621 = 25/29 = supervised / labels before the shift (25 / 29)`.
///
/// Of all factors with a name within `error` of `value` the most specific decides which number it is; other
/// names of the same number follow, because no measurement on this layout tells them apart. `None` when the
/// factor has no name here, and when it may be one.
#[must_use]
pub fn explain_ratio(layout: &Layout, beyond: BeyondLayout, value: f64, error: f64) -> Option<String> {
    name_of(&named_ratios(layout, beyond), &Measurement { value, error }).map(|(_, words)| words)
}

/// Names of a factor that are said at most: more would not be read.
const MOST_NAMES: usize = 3;

/// The first of `ratios` that `factor` may be, by its index, and all it is called.
pub(super) fn name_of(ratios: &[NamedRatio], factor: &Measurement) -> Option<(usize, String)> {
    if factor.is(&Fraction::one()) {
        return None;
    }
    let first = ratios.iter().position(|ratio| factor.is(&ratio.fraction))?;
    let fraction = &ratios[first].fraction;
    let mut words = format!("{} = {fraction}", decimal(factor.value));
    for ratio in ratios.iter().filter(|ratio| ratio.fraction == *fraction).take(MOST_NAMES) {
        let _ = write!(words, " = {}", ratio.words);
    }
    Some((first, words))
}

/// A measured number with the fraction that it is, where that is beyond doubt: `0.8621 = 25/29`, or `0.8621`.
pub(super) fn number(measured: &Measurement) -> String {
    match measured.fraction() {
        Some(fraction) => exact(measured.value, &fraction),
        None => decimal(measured.value),
    }
}

/// A number and the fraction it is.
pub(super) fn exact(value: f64, fraction: &Fraction) -> String {
    format!("{} = {fraction}", decimal(value))
}

/// Four decimals, or as many significant digits where that would be too few.
pub(super) fn decimal(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-2..1e6).contains(&size) { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// Of all fractions between `low` and `high`, the one with the smallest denominator: the descent to it in the
/// Stern-Brocot tree, whole runs of steps at once (as a continued fraction).
fn simplest(low: f64, high: f64) -> Option<(i64, i64)> {
    // Below 2^31 no product of two terms leaves an i64.
    if !(low > 0.0 && high < f64::from(i32::MAX)) {
        return None;
    }
    let floor = low.floor();
    #[expect(clippy::cast_possible_truncation, reason = "below 2^31")]
    let whole = floor as i64;
    if low <= floor {
        return Some((whole, 1));
    }
    if floor + 1.0 <= high {
        return Some((whole + 1, 1));
    }
    let (numerator, denominator) = simplest((high - floor).recip(), (low - floor).recip())?;
    let next = whole.checked_mul(numerator)?.checked_add(denominator)?;
    Some((next, numerator))
}

/// How often a fraction may be recognised where there is none. Of the fractions with denominators up to q
/// there are about 0.3 q² in a unit interval, so an interval of ±e holds 0.6·q²·e of them by accident.
const ACCIDENTS: f64 = 1e-3;

impl Measurement {
    /// The fraction this number is, when a fraction as simple as that is unlikely (one in a thousand) to lie
    /// within the error by accident. Counts are small, so weights are such fractions.
    #[must_use]
    pub fn fraction(&self) -> Option<Fraction> {
        let size = self.value.abs();
        let error = self.reach();
        let (numerator, denominator) = simplest(size - error, size + error)?;
        let q = denominator as f64;
        if 0.6 * q * q * error > ACCIDENTS {
            return None;
        }
        let sign = if self.value < 0.0 { -1 } else { 1 };
        Some(Fraction::new((sign * numerator).into(), denominator.into()))
    }

    /// Whether the number measured may be this one.
    pub(super) fn is(&self, fraction: &Fraction) -> bool {
        (self.value - to_f64(fraction)).abs() <= self.reach()
    }

    /// The error, and what it takes to round the measured number, the true one, and their difference.
    pub(super) fn reach(&self) -> f64 {
        self.error + 2.0 * f64::EPSILON * (self.value.abs() + self.error)
    }
}
