//! Where two logs part: the place, the numbers there, and by which factor.

use crate::{Pairing, Quantity};
use lossproof_trace::number;
use serde::Serialize;

/// A quotient of two logged numbers, and how far the true one may be from it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The second number divided by the first.
    #[serde(with = "number::any")]
    pub value: f64,
    /// Bound of its error.
    #[serde(with = "number::any")]
    pub error: f64,
}

/// How the second log's numbers stand to the first's over all places.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Factor {
    /// One factor explains every place.
    Uniform(Ratio),
    /// None does: the smallest and the largest.
    Varies {
        /// The smallest.
        #[serde(with = "number::any")]
        least: f64,
        /// The largest.
        #[serde(with = "number::any")]
        most: f64,
    },
    /// There is no quotient: zeros, or numbers that are not finite.
    None,
}

/// Where two logs part first in one quantity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parting {
    /// The quantity.
    pub quantity: Quantity,
    /// The first place at which they differ.
    pub place: u64,
    /// What the first log has there.
    #[serde(with = "number::any")]
    pub first: f64,
    /// What the second has.
    #[serde(with = "number::any")]
    pub second: f64,
    /// By how much they may differ: the tolerance and the places that were printed.
    #[serde(with = "number::any")]
    pub bound: f64,
    /// Their quotient there, if it is one.
    pub ratio: Option<Ratio>,
    /// The quotient over all places.
    pub factor: Factor,
    /// Places at which they differ.
    pub differing: usize,
    /// Places that were compared.
    pub compared: usize,
    /// Another pairing in which they do agree.
    pub agrees_where: Option<Pairing>,
}

impl Parting {
    /// How far apart they are there, relative to the larger; infinite where one of them is not finite.
    #[must_use]
    pub fn error(&self) -> f64 {
        let larger = self.first.abs().max(self.second.abs());
        let error = (self.first - self.second).abs() / larger;
        if error.is_nan() { f64::INFINITY } else { error }
    }
}
