//! What losses are divided by: as a rule, as a measurement, and in print.

use crate::number::grouped;
use lossproof_loop::{Cut, Settings, semantics::Window};

/// One backward pass: a micro-batch on one rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pass {
    /// Its supervised tokens.
    pub(super) losses: usize,
    /// What each of their losses is divided by.
    pub(super) divided_by: f64,
}

/// The windows of an epoch over so many blocks by the rule of the semantics, each block having so many losses.
pub(super) fn by_rule(samples: usize, losses: usize, settings: &Settings) -> Vec<Vec<Pass>> {
    let cut = Cut { batch: settings.batch, ranks: settings.ranks, shards: settings.semantics.shards };
    let order: Vec<usize> = (0..samples).collect();
    let mut windows = Vec::new();
    for window in cut.micro_batches(&order).chunks(settings.accumulate) {
        let ranks = window.iter().flatten().filter(|rank| !rank.is_empty());
        let of_passes: Vec<usize> = ranks.map(|rank| rank.len() * losses).collect();
        let all: usize = of_passes.iter().sum();
        let mut passes = Vec::new();
        for losses in of_passes {
            let divisor = match settings.semantics.window {
                Window::Tokens => all,
                Window::ConfiguredMicroBatches => losses * settings.accumulate * settings.ranks,
            };
            passes.push(Pass { losses, divided_by: divisor as f64 });
        }
        windows.push(passes);
    }
    windows
}

/// Whether two windows have the same passes and divide by the same numbers, rounding aside.
pub(super) fn agree(one: &[Pass], other: &[Pass]) -> bool {
    let alike = |(a, b): (&Pass, &Pass)| {
        a.losses == b.losses && (a.divided_by / b.divided_by - 1.0).abs() < TOLERANCE
    };
    one.len() == other.len() && one.iter().zip(other).all(alike)
}

/// How far a measured divisor may be from the whole number that it is taken for, of itself.
const TOLERANCE: f64 = 1e-9;

/// `4 × 189`: the losses of passes.
pub(super) fn losses(passes: &[Pass]) -> String {
    runs(passes.iter().map(|pass| grouped(pass.losses)))
}

/// `2 × 756, 504`: what the losses of passes are divided by; one number where it is the same for all.
pub(super) fn divisors(passes: &[Pass]) -> String {
    let all: Vec<String> = passes.iter().map(|pass| divisor(pass.divided_by)).collect();
    match all.split_first() {
        Some((first, others)) if others.iter().all(|other| other == first) => first.clone(),
        _ => runs(all),
    }
}

/// A number that rounding has kept from being whole is that whole number.
fn divisor(value: f64) -> String {
    let whole = value.round();
    if (value - whole).abs() < TOLERANCE * value.abs() {
        grouped(format!("{whole:.0}"))
    } else {
        format!("{value:.6}")
    }
}

/// Equal neighbours as one: `4 × 189, 126`.
pub(super) fn runs(items: impl IntoIterator<Item = String>) -> String {
    let mut runs: Vec<(usize, String)> = Vec::new();
    for item in items {
        match runs.last_mut() {
            Some((times, last)) if *last == item => *times += 1,
            _ => runs.push((1, item)),
        }
    }
    let mut words = Vec::new();
    for (times, item) in runs {
        words.push(if times == 1 { item } else { format!("{} × {item}", grouped(times)) });
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::looped::stage::{BOTH, settings};

    #[test]
    fn a_short_window_is_divided_by_its_losses_or_by_the_configured_number() {
        let last = BOTH.map(|semantics| by_rule(20, 63, &settings(semantics, 64)).pop().unwrap());
        assert_eq!(last.each_ref().map(|passes| losses(passes)), ["2 × 189, 126", "2 × 189, 126"]);
        assert_eq!(last.each_ref().map(|passes| divisors(passes)), ["504", "2 × 756, 504"]);
        assert!(!agree(&last[0], &last[1]) && agree(&last[0], &last[0]));
    }

    #[test]
    fn equal_neighbours_are_counted() {
        let items = ["a", "a", "b", "a"].map(str::to_owned);
        assert_eq!(runs(items), "2 × a, b, a");
        assert_eq!(divisor(504.000_000_000_01), "504");
        assert_eq!(divisor(504.1), "504.100000");
    }
}
