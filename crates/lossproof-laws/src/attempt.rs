//! One law tried on one case: what came of it, and how clearly.

use crate::{
    Failure, Law, Tried,
    trial::{Ended, Facts},
};
use lossproof_cases::{Case, CaseFile, CaseFileError};
use lossproof_numerics::Violation;
use lossproof_subject::Checked;
use std::path::{Path, PathBuf};

/// Tries a law on one case. A breach makes the case one that breaks the law.
pub(crate) fn attempt(law: &Law, subject: &mut Checked<'_>, case: &Case, facts: &Facts) -> Tried {
    let tried = law.try_with(subject, case, facts);
    with_breach(tried, subject)
}

/// What was tried, and what the subject did besides that no subject may do.
pub(crate) fn with_breach(mut tried: Tried, subject: &mut Checked<'_>) -> Tried {
    if let Some(breach) = subject.take_breach() {
        tried.comparisons.fact("breach", false, || breach.to_string());
        tried.told = Err(Ended::Failed(breach.into()));
    }
    tried
}

/// An error of so many times its bound is none of rounding, which is expected to stay below an eighth of it.
pub(crate) const CLEAR: f64 = 8.0;

/// The largest error over its bound; infinite where the subject failed or the bound is zero.
pub(crate) fn excess(tried: &Tried) -> f64 {
    if tried.error().is_some() {
        return f64::INFINITY;
    }
    let mut largest = 0.0_f64;
    for Violation { error, bound, .. } in tried.violations() {
        let ratio = error / bound;
        largest = if ratio.is_nan() { f64::INFINITY } else { largest.max(ratio) };
    }
    largest
}

/// Whether a trial is what shrinking looks for.
pub(crate) fn broken(tried: &Tried) -> bool {
    tried.error().is_some() || tried.comparisons.is_violated()
}

pub(crate) fn failure(case: Case, tried: &Tried, file: Option<PathBuf>) -> Failure {
    Failure {
        claims: None,
        case,
        violations: tried.violations(),
        plans: tried.plans.clone(),
        error: tried.error().map(ToString::to_string),
        file,
        elsewhere: Vec::new(),
        unwritten: None,
        likeness: None,
    }
}

pub(crate) fn write(directory: &Path, law: &Law, failure: &Failure) -> Result<PathBuf, CaseFileError> {
    let found = match (&failure.error, failure.violations.first()) {
        (Some(error), _) => error.clone(),
        (None, Some(violation)) => violation.statement.clone(),
        (None, None) => "it did not fail when tried again".to_owned(),
    };
    CaseFile { law: law.id().to_owned(), found, case: failure.case.clone() }.write(directory)
}
