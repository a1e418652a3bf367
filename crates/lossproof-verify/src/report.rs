//! What a verification says: rows of statements, each with its error, bound and power.

use crate::statement::{Row, Verdict};
use serde::Serialize;

/// Everything a verification found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Who took part: name, version, framework, dtype and device of each.
    pub participants: Vec<String>,
    /// One row per statement, in the order they were checked.
    pub rows: Vec<Row>,
    /// Which side is wrong, when something disagrees.
    pub blames: Vec<super::Blame>,
    /// What two identical calls differed by, relative to the gradient's scale; it enters every bound on gradients.
    pub noise_floor: f64,
    /// How far apart two judged implementations are, where gradients were sketched.
    pub growth: Option<super::Growth>,
}

impl Report {
    /// Number of rows with this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }
}
