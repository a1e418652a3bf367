//! What a campaign found of one law.

use crate::{Law, Verdict};
use lossproof_cases::Case;
use lossproof_numerics::{Closest, Violation};
use std::{fmt, path::PathBuf};

/// What a campaign found of one law.
#[derive(Clone, Debug)]
pub struct Report {
    /// The law.
    pub law: &'static Law,
    /// The verdict.
    pub verdict: Verdict,
    /// Cases tried before the first failure, replayed ones included.
    pub cases: usize,
    /// Those that could have told a violation.
    pub telling: usize,
    /// Numbers and tensors compared.
    pub compared: usize,
    /// The comparison closest to its bound.
    pub worst: Option<Closest>,
    /// The smallest relative error of anything compared that some case was certain to catch; `None` where
    /// nothing is certified by degree.
    pub power: Option<f64>,
    /// What two identical calls differed by, relative to the gradient.
    pub noise: f64,
    /// The smallest case that fails, and how.
    pub failure: Option<Failure>,
    /// Why the law was not decided, where it was not.
    pub reason: Option<String>,
}

/// A case that breaks a law.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The case, shrunk.
    pub case: Case,
    /// The comparisons outside their bounds, the worst first.
    pub violations: Vec<Violation>,
    /// What the law is broken in on other cases, as far as they were tried: one violation of each unit.
    pub elsewhere: Vec<Violation>,
    /// The error of a subject that failed.
    pub error: Option<String>,
    /// Where the case was written, or replayed from.
    pub file: Option<PathBuf>,
    /// Why it could not be written, where it was to be.
    pub unwritten: Option<String>,
    /// What the subject looks like, where an examiner was asked.
    pub diagnosis: Option<String>,
}

impl Report {
    /// Of a law that a subject's card rules out.
    #[must_use]
    pub fn unsupported(law: &'static Law, what: String) -> Self {
        Self::undecided(law, Verdict::Unsupported, what, 0.0)
    }

    pub(crate) fn undecided(law: &'static Law, verdict: Verdict, reason: String, noise: f64) -> Self {
        Self {
            law,
            verdict,
            cases: 0,
            telling: 0,
            compared: 0,
            worst: None,
            power: None,
            noise,
            failure: None,
            reason: Some(reason),
        }
    }
}

/// One line for what passed, everything there is to know about what did not.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.law.id(), self.verdict)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        if self.cases > 0 {
            write!(f, "; {} cases, {} telling, {} comparisons", self.cases, self.telling, self.compared)?;
        }
        if let (Some(worst), None) = (&self.worst, &self.failure) {
            write!(f, "; worst {:.1e} of {:.1e} ({})", worst.error, worst.bound, worst.at)?;
            match self.power {
                Some(power) => write!(f, "; power {power:.1e}")?,
                None => write!(f, "; power none")?,
            }
        }
        for clause in self.law.clauses().filter(|_| self.failure.is_some()) {
            write!(f, "\n{} {}", clause.id, clause.sentence)?;
        }
        if let Some(failure) = &self.failure {
            write!(f, "\n{failure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "smallest failing case: {}", self.case)?;
        if let Some(error) = &self.error {
            write!(f, "\nthe subject failed: {error}")?;
        }
        if let Some(violation) = self.violations.first() {
            write!(f, "\n{violation}")?;
        }
        if self.violations.len() > 1 {
            write!(f, "\n({} more comparisons fail)", self.violations.len() - 1)?;
        }
        if let Some(file) = &self.file {
            write!(f, "\ncase file: {}", file.display())?;
        }
        if let Some(error) = &self.unwritten {
            write!(f, "\nno case file: {error}")?;
        }
        if let Some(diagnosis) = &self.diagnosis {
            write!(f, "\n{diagnosis}")?;
        }
        Ok(())
    }
}
