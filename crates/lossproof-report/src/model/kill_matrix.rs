//! Which bug is found by what.

/// Bugs against the laws, or groups of laws, that could find them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KillMatrix {
    /// What the matrix shows.
    pub caption: String,
    /// The laws or groups of laws, from the left.
    pub columns: Vec<String>,
    /// The bugs, from the top.
    pub rows: Vec<KillRow>,
}

/// One bug. A bug that no column kills is shown as one that survives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KillRow {
    /// Its catalogue id.
    pub bug: String,
    /// By column; where there are fewer cells than columns, the rest is [`Kill::Untried`].
    pub cells: Vec<Kill>,
}

/// What a column makes of a bug.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kill {
    /// It fails, and the bug is named.
    Named,
    /// It fails.
    Killed,
    /// It holds although the bug is there.
    Missed,
    /// It was not tried, or does not apply.
    Untried,
}

impl Kill {
    /// Whether the bug is found.
    #[must_use]
    pub fn is_kill(self) -> bool {
        matches!(self, Self::Named | Self::Killed)
    }

    /// The word for it, in lower case.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Killed => "killed",
            Self::Missed => "missed",
            Self::Untried => "not tried",
        }
    }

    /// The sign for it, which needs no colour.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Named => "●",
            Self::Killed => "○",
            Self::Missed => "·",
            Self::Untried => "",
        }
    }
}
