//! Two logs of one quantity lined up: by updates or by tokens, point by point or as the mean of a window.

use crate::{Place, Quantity};
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

/// How the points of two logs are paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// Points at the same place.
    SamePlace,
    /// A point of the second log with the mean of the first since the point before.
    MeanOfFirst,
    /// A point of the first log with the mean of the second since the point before.
    MeanOfSecond,
    /// A point of the second log with the mean of the first since the beginning.
    RunningMeanOfFirst,
    /// A point of the first log with the mean of the second since the beginning.
    RunningMeanOfSecond,
    /// A point of the first log with one of the second that is one update later.
    SecondIsLater,
    /// A point of the first log with one of the second that is one update earlier.
    SecondIsEarlier,
}

impl Pairing {
    /// Whether two logs that agree in it say the same of the training, and differ in how they log alone.
    #[must_use]
    pub fn is_of_the_same_run(self) -> bool {
        !matches!(self, Self::SecondIsLater | Self::SecondIsEarlier)
    }
}

impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SamePlace => "at the same place",
            Self::MeanOfFirst => "the second logs the mean of the first since its point before",
            Self::MeanOfSecond => "the first logs the mean of the second since its point before",
            Self::RunningMeanOfFirst => "the second logs the mean of the first since the beginning",
            Self::RunningMeanOfSecond => "the first logs the mean of the second since the beginning",
            Self::SecondIsLater => "the second has it one update later",
            Self::SecondIsEarlier => "the second has it one update earlier",
        })
    }
}

/// Numbers of one quantity by place.
pub(crate) type Series = BTreeMap<u64, f64>;

/// A place, and what the two logs have there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) place: u64,
    pub(crate) first: f64,
    pub(crate) second: f64,
}

/// Every way to pair two series that pairs anything, the plainest first. Means are of losses alone, and are tried
/// where one log has points between those of the other; by updates only where all of them are there.
pub(crate) fn pairings(
    quantity: &Quantity,
    first: &Series,
    second: &Series,
    by: Place,
) -> Vec<(Pairing, Vec<Pair>)> {
    let mut pairings = vec![(Pairing::SamePlace, shifted(first, second, 0))];
    if *quantity == Quantity::Loss {
        let of_first = |sparse: f64, dense: f64| (dense, sparse);
        let of_second = |sparse: f64, dense: f64| (sparse, dense);
        let complete = by == Place::Update;
        for running in [false, true] {
            let [mean_of_first, mean_of_second] = if running {
                [Pairing::RunningMeanOfFirst, Pairing::RunningMeanOfSecond]
            } else {
                [Pairing::MeanOfFirst, Pairing::MeanOfSecond]
            };
            pairings.push((mean_of_first, means(second, first, running, complete, of_first)));
            pairings.push((mean_of_second, means(first, second, running, complete, of_second)));
        }
    }
    if by == Place::Update {
        pairings.push((Pairing::SecondIsLater, shifted(first, second, 1)));
        pairings.push((Pairing::SecondIsEarlier, shifted(first, second, -1)));
    }
    pairings.retain(|(_, pairs)| !pairs.is_empty());
    pairings
}

/// Points of the first series with those of the second that are so much later.
fn shifted(first: &Series, second: &Series, by: i64) -> Vec<Pair> {
    let pair = |(&place, &value): (&u64, &f64)| {
        let other = second.get(&place.checked_add_signed(by)?)?;
        Some(Pair { place, first: value, second: *other })
    };
    first.iter().filter_map(pair).collect()
}

/// Each point of a sparse series with the mean of a denser one: since the point before, or since the beginning. A mean
/// is whole where no point of the denser series is missing in its window: they are evenly spaced.
fn means(
    sparse: &Series,
    dense: &Series,
    running: bool,
    complete: bool,
    sides: impl Fn(f64, f64) -> (f64, f64),
) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let (mut sum, mut count, mut from) = (0.0, 0_u64, 0);
    let mut is_denser = false;
    let width = smallest_gap(dense);
    for (&place, &value) in sparse {
        if !running {
            (sum, count) = (0.0, 0);
        }
        let points: Vec<(u64, f64)> = if place > from {
            dense.range(from + 1..=place).map(|(&place, &value)| (place, value)).collect()
        } else {
            Vec::new()
        };
        sum += points.iter().map(|(_, value)| value).sum::<f64>();
        count += points.len() as u64;
        is_denser |= points.len() > 1;
        let whole = !points.is_empty()
            && (!complete || (points.len() as u64).checked_mul(width) == Some(place - from));
        if complete && running && !whole {
            break;
        }
        if whole {
            let (first, second) = sides(value, sum / count as f64);
            pairs.push(Pair { place, first, second });
        }
        from = place;
    }
    // Without points in between a mean is the point itself.
    if is_denser || (running && pairs.len() > 1) { pairs } else { Vec::new() }
}

/// The least distance of two points, the beginning taken for one.
fn smallest_gap(series: &Series) -> u64 {
    let (mut least, mut before) = (u64::MAX, 0);
    for &place in series.keys() {
        if place > before {
            least = least.min(place - before);
        }
        before = place;
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(values: &[f64]) -> Series {
        (1..).zip(values.iter().copied()).collect()
    }

    fn pairs(first: &Series, second: &Series, pairing: Pairing) -> Vec<(u64, f64, f64)> {
        let all = pairings(&Quantity::Loss, first, second, Place::Update);
        let (_, pairs) =
            all.into_iter().find(|(found, _)| *found == pairing).unwrap_or((pairing, Vec::new()));
        pairs.into_iter().map(|pair| (pair.place, pair.first, pair.second)).collect()
    }

    #[test]
    fn windows_and_running_means_are_those_of_the_denser_log() {
        let dense = every(&[4.0, 2.0, 3.0, 1.0]);
        let sparse = Series::from([(2, 3.0), (4, 2.0)]);
        assert_eq!(pairs(&dense, &sparse, Pairing::SamePlace), [(2, 2.0, 3.0), (4, 1.0, 2.0)]);
        assert_eq!(pairs(&dense, &sparse, Pairing::MeanOfFirst), [(2, 3.0, 3.0), (4, 2.0, 2.0)]);
        assert_eq!(pairs(&sparse, &dense, Pairing::MeanOfSecond), [(2, 3.0, 3.0), (4, 2.0, 2.0)]);
        assert_eq!(pairs(&dense, &sparse, Pairing::RunningMeanOfFirst), [(2, 3.0, 3.0), (4, 2.5, 2.0)]);
        assert_eq!(pairs(&dense, &sparse, Pairing::MeanOfSecond), []);
    }

    #[test]
    fn a_window_with_a_hole_has_no_mean() {
        let mut dense = every(&[4.0, 2.0, 3.0, 1.0]);
        dense.remove(&3);
        let sparse = Series::from([(2, 3.0), (4, 2.0)]);
        assert_eq!(pairs(&dense, &sparse, Pairing::MeanOfFirst), [(2, 3.0, 3.0)]);
    }

    #[test]
    fn a_shift_is_by_one_update() {
        let first = every(&[4.0, 2.0, 3.0]);
        let second: Series = first.iter().map(|(place, value)| (place + 1, *value)).collect();
        let all = [(1, 4.0, 4.0), (2, 2.0, 2.0), (3, 3.0, 3.0)];
        assert_eq!(pairs(&first, &second, Pairing::SecondIsLater), all);
        let zero = Series::from([(0, 1.0)]);
        assert_eq!(pairs(&zero, &every(&[1.0]), Pairing::SecondIsEarlier), []);
        assert_eq!(pairs(&zero, &every(&[1.0]), Pairing::SecondIsLater), [(0, 1.0, 1.0)]);
    }
}
