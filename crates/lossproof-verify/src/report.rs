//! Everything a verification found.

use super::{
    blame::Blame,
    rounding_distance::RoundingDistance,
    statement::{StatementRow, Verdict},
};
use serde::Serialize;

/// Everything a verification found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Who took part: name, version, framework, dtype and device of each.
    pub participants: Vec<String>,
    /// One row per statement, in the order they were checked.
    pub rows: Vec<StatementRow>,
    /// Which side is wrong, when something disagrees.
    pub blames: Vec<Blame>,
    /// What two identical calls differed by, relative to the gradient's scale; it enters every bound on
    /// gradients.
    pub noise_floor: f64,
    /// How far apart trainer and reference are, where their gradients were sketched.
    pub rounding_distance: Option<RoundingDistance>,
}

impl Report {
    /// Number of rows with this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }
}
