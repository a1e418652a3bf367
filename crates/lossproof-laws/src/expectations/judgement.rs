//! One law's outcome, held to what was expected of it.

use super::difference::Difference;
use super::outcome::{Draw, Outcome, Replay};
use super::{DeclaredFailure, FILE, SubjectExpectations};
use crate::Verdict;

/// What becomes of the test of a law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It passes.
    Green,
    /// It is ignored, because nothing was decided and nothing was to be.
    Ignored,
    /// It fails.
    Red,
}

/// What a law's outcome is, beside what was expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// What becomes of the test.
    pub standing: Standing,
    /// Why, with the remedy where it is red. `None` where the verdict says it all.
    pub reason: Option<String>,
    /// What would be red on the cases of the test's own seed and number, and is not on others.
    pub warning: Option<String>,
}

impl Judgement {
    fn new(verdict: Verdict, standing: Standing, reason: Option<String>) -> Self {
        Self { verdict, standing, reason, warning: None }
    }

    fn red(verdict: Verdict, reason: String) -> Self {
        Self::new(verdict, Standing::Red, Some(reason))
    }

    /// What a pin demands: red, with `reason`, on the cases it was made for. On others `verdict` stands as it
    /// does without the pin, with a warning.
    fn pinned(outcome: &Outcome, red: Verdict, otherwise: Self, reason: String) -> Self {
        match outcome.draw {
            Draw::Own => Self::red(red, reason),
            Draw::Other => Self { warning: Some(reason), ..otherwise },
        }
    }
}

/// Holds the outcome of one law to what is expected of it; `expected` is what the file says of the subject,
/// if it lists it.
///
/// | found | not listed | pinned | declared to fail, and the case does so | declared, and it does not | neither |
/// |---|---|---|---|---|---|
/// | pass | green | green | expected failure, green | unexpected pass, red | unexpected pass, red |
/// | fail | red | red | expected failure, green | red | red |
/// | unsupported | ignored | red | expected failure, green | unexpected pass, red | ignored |
/// | unchecked | red | red | expected failure, green | unexpected pass, red | ignored |
/// | errored | red | red | expected failure, green | red | red |
///
/// The reds of the pins, those of *pass*, *unsupported* and *unchecked* under *pinned* and *neither*, are
/// warnings on other cases than the test's own. A declared case that could not be tried is red, whatever was
/// found, and so is an error that was found on another case and is not the declared one. A declaration is of
/// its units: one that fails and is not in it is red, and so is one that is off by something else on the declared
/// case; one in it that no longer fails is an unexpected pass, red on the test's own cases, because it would
/// hide the next defect there, and a warning on others, which need not show every unit.
#[must_use]
pub fn judge(expected: Option<&SubjectExpectations>, outcome: &Outcome) -> Judgement {
    let Some(expected) = expected else {
        return unlisted(outcome);
    };
    if let Some(declared) = expected.declared(outcome.law) {
        return of_declared(declared, outcome);
    }
    let verdict = outcome.verdict;
    let pinned = expected.pins(outcome.law);
    match outcome.verdict {
        Verdict::Pass if pinned => Judgement::new(verdict, Standing::Green, None),
        Verdict::Pass => {
            let green = Judgement::new(verdict, Standing::Green, None);
            let reason = format!(
                "decides and is not pinned: add it to `decides` in {FILE}, or run LOSSPROOF_EXPECT=write cargo test"
            );
            Judgement::pinned(outcome, Verdict::UnexpectedPass, green, reason)
        }
        Verdict::Unsupported | Verdict::Unchecked => {
            let ignored = Judgement::new(verdict, Standing::Ignored, outcome.why.clone());
            if !pinned {
                return ignored;
            }
            let reason = format!(
                "pinned to decide, and no longer does: {}; make it decide again, or delete it from `decides` in {FILE}",
                why(outcome)
            );
            Judgement::pinned(outcome, verdict, ignored, reason)
        }
        Verdict::Fail | Verdict::Errored | Verdict::ExpectedFailure | Verdict::UnexpectedPass => {
            Judgement::new(verdict, Standing::Red, outcome.why.clone())
        }
    }
}

/// Where nothing is expected of the subject.
fn unlisted(outcome: &Outcome) -> Judgement {
    let verdict = outcome.verdict;
    match outcome.verdict {
        Verdict::Pass => Judgement::new(verdict, Standing::Green, None),
        Verdict::Unsupported => Judgement::new(verdict, Standing::Ignored, outcome.why.clone()),
        Verdict::Unchecked => {
            let reason = format!(
                "{}; if that is as it must be, say which laws decide in {FILE}: LOSSPROOF_EXPECT=write cargo test",
                why(outcome)
            );
            Judgement::red(verdict, reason)
        }
        Verdict::Fail | Verdict::Errored | Verdict::ExpectedFailure | Verdict::UnexpectedPass => {
            Judgement::new(verdict, Standing::Red, outcome.why.clone())
        }
    }
}

/// Where the law is declared to fail.
fn of_declared(declared: &DeclaredFailure, outcome: &Outcome) -> Judgement {
    let file = declared.file.display();
    let untried = match &outcome.replay {
        Some(replay) if declared.holds(replay) => {
            // A trainer that fails elsewhere in a way that nobody declared has a defect that nobody knew.
            if let Some(error) = outcome.undeclared_error(declared.error.as_deref()) {
                let reason = format!(
                    "is broken on {file} as declared, and otherwise the trainer fails in a way that is not: {error}"
                );
                return Judgement::red(outcome.verdict, reason);
            }
            return of_broken(declared, outcome);
        }
        Some(Replay::Passes) => return of_kept(declared, outcome),
        Some(Replay::Fails(_)) => {
            let error = declared.error.as_deref().unwrap_or_default();
            let reason = format!(
                "declared to make the trainer fail with \"{error}\", and the law is broken on {file} instead: delete \
                 `error` in {FILE} if that is what is known"
            );
            return Judgement::red(Verdict::Fail, reason);
        }
        Some(Replay::Errors(found)) => {
            let reason = match &declared.error {
                Some(expected) => {
                    format!("the error on {file} is not the declared \"{expected}\", but: {found}")
                }
                None => format!(
                    "declared to be broken on {file}, and there the trainer fails instead: {found}; if that is what is \
                     known, give the declaration in {FILE} a part of this message as `error`"
                ),
            };
            return Judgement::red(Verdict::Errored, reason);
        }
        Some(Replay::Silent) => "the law could not tell a violation on it from what is right",
        Some(Replay::Untried(why)) => why.as_str(),
        None => why(outcome),
    };
    if outcome.verdict == Verdict::Pass {
        let reason = format!(
            "declared to fail, and kept on every case that was tried; {file} shows nothing any more: {untried}. If \
             \"{}\" is mended, delete the declaration from {FILE}; if not, name a case that shows it",
            declared.reason
        );
        return Judgement::red(Verdict::UnexpectedPass, reason);
    }
    let verdict = outcome.verdict;
    let reason = format!(
        "declared to fail, and its case {file} could not be tried: {untried}; name a case that can, or delete the \
         declaration from {FILE}"
    );
    Judgement::red(verdict, reason)
}

/// Where the law is broken on the declared case as it is declared to be: in its units.
fn of_broken(declared: &DeclaredFailure, outcome: &Outcome) -> Judgement {
    let reason = format!("{} ({})", declared.reason, declared.file.display());
    let expected = Judgement::new(Verdict::ExpectedFailure, Standing::Green, Some(reason));
    let difference = Difference::of(&declared.units, outcome);
    if difference.is_none() {
        return expected;
    }
    let advice = format!(
        "where \"{}\" is why, change its `units` in {FILE}, or run LOSSPROOF_EXPECT=write cargo test",
        declared.reason
    );
    let reason = format!("{difference}; {advice}");
    if difference.is_new() {
        Judgement::red(Verdict::Fail, format!("not the declared failure alone: {reason}"))
    } else {
        Judgement::pinned(outcome, Verdict::UnexpectedPass, expected, reason)
    }
}

/// Where the law is declared to fail, and is kept on the declared case.
fn of_kept(declared: &DeclaredFailure, outcome: &Outcome) -> Judgement {
    let file = declared.file.display();
    match outcome.verdict {
        Verdict::Pass | Verdict::Unsupported | Verdict::Unchecked => {
            let reason = format!(
                "no longer fails on {file}: the declaration in {FILE} can be deleted, and so can its reason, \"{}\"",
                declared.reason
            );
            Judgement::red(Verdict::UnexpectedPass, reason)
        }
        Verdict::Fail | Verdict::ExpectedFailure | Verdict::UnexpectedPass => {
            let another = match &outcome.case {
                Some(case) => format!("on another, {}", case.display()),
                None => "on another".to_owned(),
            };
            let reason = format!(
                "no longer fails on the declared case {file}, but {another}: see whether \"{}\" is still why, then \
                 declare that case in {FILE}",
                declared.reason
            );
            Judgement::red(Verdict::Fail, reason)
        }
        Verdict::Errored => {
            let reason = format!("no longer fails on {file}, and on another case {}", why(outcome));
            Judgement::red(Verdict::Errored, reason)
        }
    }
}

/// Why nothing was decided.
fn why(outcome: &Outcome) -> &str {
    outcome.why.as_deref().unwrap_or(match outcome.verdict {
        Verdict::Unsupported => "the trainer lacks what it needs",
        Verdict::Errored => "the trainer failed",
        _ => "nothing was compared",
    })
}

#[cfg(test)]
mod tests;
