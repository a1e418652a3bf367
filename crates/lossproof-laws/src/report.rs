//! What a campaign found of one law.

use crate::{Law, Likeness, Verdict};
use lossproof_cases::{Case, Counts, Rows};
use lossproof_numerics::{Closest, Violation};
use lossproof_subject::Claims;
use std::{
    collections::BTreeSet,
    env, fmt,
    path::{Path, PathBuf},
};

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
    /// Numbers and tensors compared, those of a case that fails included.
    pub compared: usize,
    /// The units of which anything was compared, as far as cases were tried and not declared to fail.
    pub looked_at: BTreeSet<String>,
    /// The comparison closest to its bound, or furthest beyond it.
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
    /// The loss semantics that the subject's card claims, where it was asked.
    pub claims: Option<Claims>,
    /// The case, shrunk.
    pub case: Case,
    /// The comparisons outside their bounds, the worst first.
    pub violations: Vec<Violation>,
    /// The plans of the trainings that ran over its samples, in words.
    pub plans: Vec<String>,
    /// What the law is broken in on other cases, as far as they were tried: one violation of each unit.
    pub elsewhere: Vec<Violation>,
    /// The error of a subject that failed.
    pub error: Option<String>,
    /// Where the case was written, or replayed from.
    pub file: Option<PathBuf>,
    /// Why it could not be written, where it was to be.
    pub unwritten: Option<String>,
    /// What the subject looks like, where an examiner was asked.
    pub likeness: Option<Likeness>,
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
            looked_at: BTreeSet::new(),
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
        if let Some(failure) = &self.failure {
            write!(f, "\nclaimed: {}", claimed(failure.claims.as_ref()))?;
            for clause in self.law.clauses() {
                write!(f, "\n  {} {}", clause.id, clause.sentence)?;
            }
            write!(f, "\n{failure}")?;
        }
        Ok(())
    }
}

/// What was seen, the smallest batch that shows it, the trainings that ran over its samples, what that looks like, what
/// to change, and where the case is kept: each begins a line of its own, and what belongs to it is indented.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seen: ")?;
        match (&self.error, self.violations.as_slice()) {
            (None, []) => f.write_str("it did not fail when it was tried again")?,
            (None, violations) => write_violations(f, violations)?,
            (Some(error), []) => write!(f, "the trainer failed: {}", indented(error))?,
            (Some(error), violations) => {
                write!(f, "the trainer failed: {}\n  before that: ", indented(error))?;
                write_violations(f, violations)?;
            }
        }
        let (batch, spec) = (&self.case.batch, &self.case.spec);
        write!(f, "\nsmallest batch: {}", Counts(batch))?;
        // Under the one loss that a trainer has goes without saying.
        if !matches!(self.claims, Some(Claims::One(claim)) if claim == *spec) {
            write!(f, ", under {spec}")?;
        }
        write!(f, "\n  {}", indented(&Rows(batch).to_string()))?;
        for plan in &self.plans {
            write!(f, "\nplan: {}", indented(plan))?;
        }
        if let Some(Likeness { looks_like, change, .. }) = &self.likeness {
            write!(f, "\nlooks like: {}", indented(looks_like))?;
            let unknown = "nobody has a name for it: follow the smallest batch through the trainer by hand";
            write!(f, "\nchange: {}", indented(change.as_deref().unwrap_or(unknown)))?;
        }
        if let Some(file) = &self.file {
            write!(f, "\nkept: {}, which is tried first from now on", from_here(file).display())?;
        }
        if let Some(error) = &self.unwritten {
            write!(f, "\nnot kept: {error}")?;
        }
        Ok(())
    }
}

/// What a card claims, in words.
fn claimed(claims: Option<&Claims>) -> String {
    match claims {
        Some(Claims::One(spec)) => spec.to_string(),
        Some(Claims::Several(specs)) => {
            specs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; or ")
        }
        Some(Claims::Any) => "every loss that is asked for".to_owned(),
        None => "what every trainer is held to".to_owned(),
    }
}

/// The worst comparison, and how many others fail.
fn write_violations(f: &mut fmt::Formatter<'_>, violations: &[Violation]) -> fmt::Result {
    let [worst, others @ ..] = violations else { return Ok(()) };
    write!(f, "{worst}")?;
    if others.is_empty() { Ok(()) } else { write!(f, "\n  {} more comparisons fail", others.len()) }
}

/// A text of several lines under a heading.
fn indented(text: &str) -> String {
    text.replace('\n', "\n  ")
}

/// A path as it is typed in the folder of the package, where cargo runs tests.
fn from_here(file: &Path) -> PathBuf {
    let here = env::current_dir().ok();
    let inside = here.and_then(|here| file.strip_prefix(here).ok().map(Path::to_owned));
    inside.unwrap_or_else(|| file.to_owned())
}
