//! Statements that were tried, each with what became of it.

/// A list of checks: a suite in JUnit XML.
#[derive(Clone, Debug, PartialEq)]
pub struct Checks {
    /// What they have in common: `laws`.
    pub name: String,
    /// In the order in which they are listed.
    pub checks: Vec<Check>,
}

impl Checks {
    /// How many came to an outcome of this word.
    #[must_use]
    pub fn count(&self, word: &str) -> usize {
        self.checks.iter().filter(|check| check.outcome.word() == word).count()
    }
}

/// A statement that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Its name, as it is given on a command line: `token-mean`.
    pub id: String,
    /// What it says.
    pub what: String,
    /// What became of it.
    pub outcome: CheckOutcome,
    /// How long it took, where that is known.
    pub seconds: Option<f64>,
    /// What was counted and measured: columns of the list.
    pub measures: Vec<Measure>,
    /// What a person reads to understand the outcome, such as the smallest batch; line breaks count.
    pub details: String,
    /// The line that tries this check alone.
    pub rerun: Option<String>,
}

impl Check {
    /// A statement that holds.
    #[must_use]
    pub fn passed(id: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(id, what, CheckOutcome::Passed)
    }

    /// A statement that does not hold; the reason is one sentence.
    #[must_use]
    pub fn failed(id: impl Into<String>, what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(id, what, CheckOutcome::Failed(reason.into()))
    }

    /// A check with nothing but its outcome.
    #[must_use]
    pub fn new(id: impl Into<String>, what: impl Into<String>, outcome: CheckOutcome) -> Self {
        Self {
            id: id.into(),
            what: what.into(),
            outcome,
            seconds: None,
            measures: Vec::new(),
            details: String::new(),
            rerun: None,
        }
    }

    /// With one more number.
    #[must_use]
    pub fn measured(mut self, name: impl Into<String>, value: f64) -> Self {
        self.measures.push(Measure { name: name.into(), value });
        self
    }

    /// With how long it took.
    #[must_use]
    pub fn with_seconds(mut self, seconds: f64) -> Self {
        self.seconds = Some(seconds);
        self
    }

    /// With what a person reads to understand the outcome.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// With the line that tries it alone.
    #[must_use]
    pub fn with_rerun(mut self, command: impl Into<String>) -> Self {
        self.rerun = Some(command.into());
        self
    }
}

/// What became of a check. Each but the first has its reason, one sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CheckOutcome {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed(String),
    /// It could not be tried: the trainer crashed, hung or refused.
    Errored(String),
    /// It was tried, and nothing could be told; an error in JUnit XML, because it never counts as passed.
    Unchecked(String),
    /// It does not apply, or was not asked for.
    Skipped(String),
}

impl CheckOutcome {
    /// The words of all outcomes, the worst first.
    pub(crate) const WORDS: [&str; 5] = ["failed", "errored", "unchecked", "passed", "skipped"];

    /// The word for it: `passed`, `failed`, `errored`, `unchecked` or `skipped`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Errored(_) => "errored",
            Self::Unchecked(_) => "unchecked",
            Self::Skipped(_) => "skipped",
        }
    }

    /// The sign for it, which needs no colour.
    #[must_use]
    pub fn sign(&self) -> &'static str {
        match self {
            Self::Passed => "✓",
            Self::Failed(_) => "✗",
            Self::Errored(_) => "!",
            Self::Unchecked(_) => "?",
            Self::Skipped(_) => "–",
        }
    }

    /// Why it is not passed.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Failed(reason)
            | Self::Errored(reason)
            | Self::Unchecked(reason)
            | Self::Skipped(reason) => Some(reason),
        }
    }
}

/// A number that a check counted or measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// What it is the number of: `cases`.
    pub name: String,
    /// The number, which need not be finite.
    pub value: f64,
}
