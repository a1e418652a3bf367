//! What one run found of a law, as the expectations see it.

use super::Broken;
use crate::{Report, Tried, Verdict};
use std::path::PathBuf;

/// Which cases a law was tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Those of the test's own seed and number: what the expectations pin.
    Own,
    /// Others, because `--seed` or `--cases` was given. Luck may then decide a law, or leave it undecided.
    Other,
}

/// What the case of a declared failure showed when the law was tried on it again.
#[derive(Clone, Debug, PartialEq)]
pub enum Replay {
    /// The law is broken, in these units.
    Fails(Broken),
    /// The trainer failed with this error, or breached its contract like this, whatever it had computed by
    /// then.
    Errors(String),
    /// The law is kept, on a case that could have told a violation.
    Passes,
    /// Nothing is wrong, on a case that could not have told a violation from what is right.
    Silent,
    /// The law could not be tried on it, for this reason.
    Untried(String),
}

impl Replay {
    /// Of a law that was tried on the declared case.
    #[must_use]
    pub fn of(tried: &Tried) -> Self {
        if let Some(error) = tried.error() {
            Self::Errors(error.to_string())
        } else if !tried.violations().is_empty() {
            Self::Fails(Broken::of(&tried.violations()))
        } else if let Some(what) = tried.unsupported() {
            Self::Untried(format!("the trainer lacks {what}"))
        } else if tried.tells() {
            Self::Passes
        } else if tried.comparisons.compared() > 0 {
            Self::Silent
        } else {
            Self::Untried(
                "the law has nothing to compare on it, or the trainer does not take its batch".to_owned(),
            )
        }
    }
}

/// Whether an error is the declared one: its message contains what is declared, whatever numbers stand in both.
/// Those hang on the case.
pub(super) fn is_error(found: &str, declared: &str) -> bool {
    without_numbers(found).contains(&without_numbers(declared))
}

/// A text with one `#` for each run of digits.
fn without_numbers(text: &str) -> String {
    let mut without = String::with_capacity(text.len());
    for character in text.chars() {
        if !character.is_ascii_digit() {
            without.push(character);
        } else if !without.ends_with('#') {
            without.push('#');
        }
    }
    without
}

/// Whether a replay shows what was declared: a broken law or, where `error` is given, an error whose message
/// contains it.
pub(super) fn holds(error: Option<&str>, replay: &Replay) -> bool {
    match (error, replay) {
        (None, Replay::Fails(_)) => true,
        (Some(expected), Replay::Errors(found)) => is_error(found, expected),
        _ => false,
    }
}

/// What a run found of one law.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Id of the law.
    pub law: &'static str,
    /// What was found, whatever was expected.
    pub verdict: Verdict,
    /// Why the law was not decided.
    pub why: Option<String>,
    /// What the trainer failed with on the case that broke the law, where it failed.
    pub error: Option<String>,
    /// What of the law failed on that case; nothing where the trainer failed with an error.
    pub broken: Broken,
    /// What of the law failed on other cases, as far as they were tried.
    pub elsewhere: Broken,
    /// Where the case that broke the law is kept.
    pub case: Option<PathBuf>,
    /// What the case of the declared failure showed; `None` where none is declared, or nothing was tried.
    pub replay: Option<Replay>,
    /// Which cases the law was tried on.
    pub draw: Draw,
}

impl Outcome {
    /// Of the report of a campaign.
    #[must_use]
    pub fn of(report: &Report, replay: Option<Replay>, draw: Draw) -> Self {
        let failed = report.failure.as_ref().filter(|failure| failure.error.is_none());
        Self {
            law: report.law.id(),
            verdict: report.verdict,
            why: report.reason.clone(),
            error: report.failure.as_ref().and_then(|failure| failure.error.clone()),
            broken: failed.map(|failure| Broken::of(&failure.violations)).unwrap_or_default(),
            elsewhere: report
                .failure
                .as_ref()
                .map(|failure| Broken::of(&failure.elsewhere))
                .unwrap_or_default(),
            case: report.failure.as_ref().and_then(|failure| failure.file.clone()),
            replay,
            draw,
        }
    }

    /// The error that the trainer failed with, on a case or before there was one, unless it is the declared one.
    pub(super) fn undeclared_error(&self, declared: Option<&str>) -> Option<&str> {
        let failed = matches!(self.verdict, Verdict::Fail | Verdict::Errored);
        let before = self.why.as_deref().filter(|_| failed);
        let error = self.error.as_deref().or(before)?;
        let known = declared.is_some_and(|declared| is_error(error, declared));
        (!known).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_numerics::{Comparisons, Violation};
    use lossproof_subject::SubjectError;

    fn violated() -> Comparisons {
        let mut comparisons = Comparisons::default();
        comparisons.hold("loss", 0.0, 1.0, || Violation {
            unit: "loss".to_owned(),
            statement: "one loss is the other".to_owned(),
            error: 1.0,
            bound: 0.0,
            pair: None,
            ratio: None,
        });
        comparisons
    }

    fn crash() -> SubjectError {
        SubjectError::Failed { subject: "toy".to_owned(), message: "out of memory".to_owned() }
    }

    #[test]
    fn a_replay_is_what_the_law_found() {
        let broken = Tried::new(violated(), Ok(true));
        let Replay::Fails(found) = Replay::of(&broken) else { panic!("it is broken") };
        assert_eq!(found.units().collect::<Vec<_>>(), ["loss"]);
        // A crash is no broken law, even where something computed before it was wrong.
        for comparisons in [violated(), Comparisons::default()] {
            let crashed = Tried::new(comparisons, Err(crash().into()));
            assert!(matches!(Replay::of(&crashed), Replay::Errors(said) if said.contains("out of memory")));
        }
        let kept = Tried::new(Comparisons::default(), Ok(true));
        assert_eq!(Replay::of(&kept), Replay::Passes);
    }

    #[test]
    fn a_case_that_could_not_have_told_a_violation_was_not_tried() {
        let silent = Tried::new(Comparisons::default(), Ok(false));
        assert!(matches!(Replay::of(&silent), Replay::Untried(_)));
        let mut kept = Comparisons::default();
        kept.hold("loss", 1.0, 0.0, || unreachable!());
        assert_eq!(Replay::of(&Tried::new(kept, Ok(false))), Replay::Silent);
    }

    #[test]
    fn an_error_is_no_broken_law_and_a_broken_law_no_error() {
        let fails = Replay::Fails(Broken::default());
        assert!(holds(None, &fails));
        assert!(!holds(None, &Replay::Errors("out of memory".to_owned())));
        assert!(holds(Some("memory"), &Replay::Errors("out of memory".to_owned())));
        assert!(!holds(Some("overflow"), &Replay::Errors("out of memory".to_owned())));
        assert!(!holds(Some("memory"), &fails));
        // Another case has other numbers.
        let found = Replay::Errors("3 of 12 losses".to_owned());
        assert!(holds(Some("10 of 9 losses"), &found) && !holds(Some("losses of 12"), &found));
        for replay in [Replay::Passes, Replay::Silent, Replay::Untried("no".to_owned())] {
            assert!(!holds(None, &replay) && !holds(Some(""), &replay), "{replay:?}");
        }
    }
}
