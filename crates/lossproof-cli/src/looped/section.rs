//! A part of the table of differences, and what is run for all of them.

use lossproof_gpt2::Config;

/// The model that is run.
pub(super) const MODEL: Config = Config::Pico;
/// Tokens of a block: as many as the model has positions.
pub(super) const BLOCK: usize = 16;

/// Some rows under a heading: what is looked at, what it lawfully is, and what it is in the script.
pub(super) struct Section {
    pub(super) heading: String,
    pub(super) rows: Vec<[String; 3]>,
}

impl Section {
    /// A section without rows.
    pub(super) fn new(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, what: impl Into<String>, [lawful, script]: [String; 2]) {
        self.rows.push([what.into(), lawful, script]);
    }
}
