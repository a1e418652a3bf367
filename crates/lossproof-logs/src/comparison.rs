//! Two logs compared, quantity by quantity.
//!
//! Two trainers that compute the same differ by rounding, which training makes larger from update to update: what is
//! left of the digits after some updates is about half. So two numbers may differ by `√u` of the larger, where `u` is
//! the unit round-off of the coarser log (single precision where a log does not say), besides what was lost when they
//! were printed. This divides rounding from mistakes of semantics, which move a number by a factor; it bounds nothing,
//! and a caller may set another.

use crate::{
    Factor, Log, Pairing, Parting, Place, Quantity, Ratio,
    alignment::{Pair, Series, pairings},
    allowed::Allowed,
};
use lossproof_spec::Dtype;
use lossproof_trace::number;
use serde::Serialize;

/// How logs are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// What to line them up by; found out where it is not said.
    pub by: Option<Place>,
    /// By how much two numbers may differ, relative to the larger; `√u` where it is not said.
    pub tolerance: Option<f64>,
}

/// Two logs of one quantity, at the places that both have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The quantity.
    pub quantity: Quantity,
    /// How the points were paired.
    pub pairing: Pairing,
    /// The places, in order.
    pub places: Vec<u64>,
    /// What the first log has there.
    #[serde(with = "number::list")]
    pub first: Vec<f64>,
    /// What the second has.
    #[serde(with = "number::list")]
    pub second: Vec<f64>,
    /// At how many places the first and the second log have the quantity.
    pub of: [usize; 2],
    /// Where they part first, if they do.
    pub parting: Option<Parting>,
}

/// What comparing two logs comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What they are called.
    pub names: [String; 2],
    /// What they were lined up by.
    pub by: Place,
    /// By how much two numbers may differ, relative to the larger.
    pub tolerance: f64,
    /// The quantities that both have at some place, in the order in which a step computes them.
    pub curves: Vec<Curve>,
    /// What was not compared, and why, in words.
    pub uncompared: Vec<String>,
    /// What had to be supposed, in words.
    pub notes: Vec<String>,
}

/// Why two logs could not be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A tolerance that tolerates nothing or everything.
    #[error("the tolerance is {tolerance}: it must be 0 or more, and below 1")]
    Tolerance {
        /// The tolerance.
        tolerance: f64,
    },
    /// No quantity at a place that both have.
    #[error(
        "nothing can be compared by {by}: {reason}; line them up by the other (--by), or say what their columns are \
         (--name NAME=loss)"
    )]
    Nothing {
        /// What they were lined up by.
        by: Place,
        /// What is missing.
        reason: String,
    },
}

/// Of what is off at the first place, the first in the order of computation leads whose error is at least this
/// fraction of the largest: one mistake shows in several quantities, about equally.
const LEADING: f64 = 0.5;

impl Comparison {
    /// The quantity to look at: where the logs part first, and in what.
    #[must_use]
    pub fn leading(&self) -> Option<(&Curve, &Parting)> {
        let parted = || self.curves.iter().filter_map(|curve| Some((curve, curve.parting.as_ref()?)));
        let place = parted().map(|(_, parting)| parting.place).min()?;
        let there = || parted().filter(move |(_, parting)| parting.place == place);
        let largest = there().map(|(_, parting)| parting.error()).fold(0.0, f64::max);
        there().find(|(_, parting)| parting.error() >= LEADING * largest)
    }

    /// Whether all that was compared agrees, in whichever pairing says the same of the training.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.curves.iter().all(|curve| curve.parting.is_none())
    }

    /// Whether a loss or a gradient was compared: learning rates alone say nothing of a training.
    #[must_use]
    pub fn is_of_the_training(&self) -> bool {
        self.curves
            .iter()
            .any(|curve| !matches!(curve.quantity, Quantity::LearningRate | Quantity::ClipFactor))
    }
}

/// Compares two logs.
///
/// # Errors
/// When they have no quantity at a place in common, or the tolerance is none.
pub fn compare(first: &Log, second: &Log, settings: &Settings) -> Result<Comparison, CompareError> {
    let roundoff = |log: &Log| log.unit_roundoff.unwrap_or(Dtype::F32.unit_roundoff());
    let tolerance = settings.tolerance.unwrap_or_else(|| roundoff(first).max(roundoff(second)).sqrt());
    if !(0.0..1.0).contains(&tolerance) {
        return Err(CompareError::Tolerance { tolerance });
    }
    let mut notes = Vec::new();
    for log in [first, second] {
        notes.extend(log.notes.iter().map(|note| format!("{}: {note}", log.name)));
    }
    let by = settings.by.unwrap_or_else(|| place_of(first, second, &mut notes));
    let (mut curves, mut uncompared) = (Vec::new(), Vec::new());
    let (of_first, of_second) = (first.quantities(), second.quantities());
    for quantity in &of_first {
        let in_both = of_second.contains(quantity);
        match quantity {
            Quantity::Other(name) if in_both => {
                uncompared
                    .push(format!("`{name}`: what it is is not known, --name \"{name}=loss\" would say it"));
            }
            Quantity::Other(_) => {}
            _ if !in_both => uncompared.push(format!("{quantity}: the second log has none")),
            _ => match curve([first, second], quantity, by, tolerance, &mut notes) {
                Ok(curve) => curves.push(curve),
                Err(why) => uncompared.push(format!("{quantity}: {why}")),
            },
        }
    }
    for quantity in of_second.iter().filter(|quantity| !of_first.contains(quantity)) {
        if !matches!(quantity, Quantity::Other(_)) {
            uncompared.push(format!("{quantity}: the first log has none"));
        }
    }
    if curves.is_empty() {
        let reason = if uncompared.is_empty() {
            "neither log has a quantity that is known".to_owned()
        } else {
            uncompared.join("; ")
        };
        return Err(CompareError::Nothing { by, reason });
    }
    let names = [first, second].map(|log| log.name.clone());
    Ok(Comparison { names, by, tolerance, curves, uncompared, notes })
}

/// What two logs are lined up by: updates, unless these are of other sizes or one of the logs does not count them.
fn place_of(first: &Log, second: &Log, notes: &mut Vec<String>) -> Place {
    let has = |log: &Log, of: fn(&crate::Row) -> bool| log.rows.iter().any(of);
    let updates = [first, second].map(|log| has(log, |row| row.update.is_some()));
    let tokens = [first, second].map(|log| has(log, |row| row.tokens.is_some()));
    if tokens == [true, true] {
        if updates != [true, true] {
            return Place::Tokens;
        }
        let at = |log: &Log, update: u64| {
            log.rows.iter().find(|row| row.update == Some(update)).and_then(|row| row.tokens)
        };
        for update in first.rows.iter().filter_map(|row| row.update) {
            if let (Some(one), Some(other)) = (at(first, update), at(second, update)) {
                if one != other {
                    notes.push(format!(
                        "update {update} is after {one} tokens in the first log and after {other} in the second: lined up by \
                         tokens"
                    ));
                    return Place::Tokens;
                }
                break;
            }
        }
    }
    Place::Update
}

/// Other pairings than at the same place need so many places: fewer agree by accident.
const FEWEST_PLACES: usize = 3;

/// Two logs of one quantity, lined up; or why they cannot be.
fn curve(
    logs: [&Log; 2],
    quantity: &Quantity,
    by: Place,
    tolerance: f64,
    notes: &mut Vec<String>,
) -> Result<Curve, String> {
    let mut both = Vec::new();
    for log in logs {
        let (series, replaced) = log.series(quantity, by);
        if 2 * replaced > series.len() {
            return Err(format!("{} has several numbers of it at most places: is it split?", log.name));
        }
        if replaced > 0 {
            notes.push(format!(
                "{}: {quantity} has several numbers at {replaced} places, the last of each counts",
                log.name
            ));
        }
        both.push(series);
    }
    let allowed = Allowed { tolerance, resolution: logs.map(|log| log.resolution(quantity)) };
    let of = [both[0].len(), both[1].len()];
    let (pairing, mut pairs, agrees_where) = paired(quantity, &both[0], &both[1], by, &allowed)
        .ok_or_else(|| format!("the logs have it at no {by} in common"))?;
    let all = pairs.len();
    pairs.retain(|pair| !allowed.is_too_coarse(pair));
    if pairs.is_empty() {
        return Err("it was printed to too few places to be compared".to_owned());
    }
    if pairs.len() < all {
        let coarse = all - pairs.len();
        notes.push(format!(
            "{quantity} was printed to too few places to be compared at {coarse} of {all} places"
        ));
    }
    let parting = parting(quantity, &pairs, &allowed, agrees_where);
    Ok(Curve {
        quantity: quantity.clone(),
        pairing,
        places: pairs.iter().map(|pair| pair.place).collect(),
        first: pairs.iter().map(|pair| pair.first).collect(),
        second: pairs.iter().map(|pair| pair.second).collect(),
        of,
        parting,
    })
}

/// How two series are paired: at the same places, or in another way in which they agree at as many places. With it the
/// way in which they would agree, where that is not one that says the same of the training.
fn paired(
    quantity: &Quantity,
    first: &Series,
    second: &Series,
    by: Place,
    allowed: &Allowed,
) -> Option<(Pairing, Vec<Pair>, Option<Pairing>)> {
    let agrees = |pairs: &[Pair]| pairs.iter().all(|pair| allowed.near(pair));
    let mut same = Vec::new();
    let mut other: Option<(Pairing, Vec<Pair>)> = None;
    let mut shifted = None;
    for (pairing, pairs) in pairings(quantity, first, second, by) {
        let enough = pairs.len() >= FEWEST_PLACES.max(same.len()) && agrees(&pairs);
        match pairing {
            Pairing::SamePlace => same = pairs,
            // A shift leaves one place out.
            _ if !pairing.is_of_the_same_run() => {
                let as_many = pairs.len() + 1 >= same.len() && pairs.len() + 1 >= FEWEST_PLACES;
                if as_many && agrees(&pairs) {
                    shifted = shifted.or(Some(pairing));
                }
            }
            _ if enough && other.is_none() => other = Some((pairing, pairs)),
            _ => {}
        }
    }
    if !same.is_empty() && agrees(&same) {
        return Some((Pairing::SamePlace, same, None));
    }
    if let Some((pairing, pairs)) = other {
        return Some((pairing, pairs, None));
    }
    (!same.is_empty()).then_some((Pairing::SamePlace, same, shifted))
}

fn parting(
    quantity: &Quantity,
    pairs: &[Pair],
    allowed: &Allowed,
    agrees_where: Option<Pairing>,
) -> Option<Parting> {
    let mut differing = pairs.iter().filter(|pair| !allowed.near(pair));
    let at = *differing.next()?;
    Some(Parting {
        quantity: quantity.clone(),
        place: at.place,
        first: at.first,
        second: at.second,
        bound: allowed.difference(&at),
        ratio: allowed.ratio(&at),
        factor: factor(pairs, allowed),
        differing: 1 + differing.count(),
        compared: pairs.len(),
        agrees_where,
    })
}

/// One factor for all places, if there is one.
fn factor(pairs: &[Pair], allowed: &Allowed) -> Factor {
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    // Any factor makes nothing of nothing.
    for pair in pairs.iter().filter(|pair| pair.first != 0.0 || pair.second != 0.0) {
        let Some(ratio) = allowed.ratio(pair) else { return Factor::None };
        (low, high) = (low.max(ratio.value - ratio.error), high.min(ratio.value + ratio.error));
        (least, most) = (least.min(ratio.value), most.max(ratio.value));
    }
    if least > most {
        Factor::None
    } else if low <= high {
        Factor::Uniform(Ratio { value: f64::midpoint(low, high), error: (high - low) / 2.0 })
    } else {
        Factor::Varies { least, most }
    }
}

#[cfg(test)]
mod tests;
