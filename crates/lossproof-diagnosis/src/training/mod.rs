//! What is wrong with a training loop: the laws of a whole training that it breaks, and in what, held to what each
//! known bug breaks.
//!
//! A loop shows much less than a step: not one of its numbers can be asked for at parameters of our choice. So a bug
//! is known by the pattern of what fails. A pattern that several bugs have names them all, and one that no bug has
//! names none.

mod patterns;

use crate::catalogue::Bug;
use lossproof_laws::{Campaign, LAWS, Report, Verdict};
use lossproof_subject::Subject;
use std::{collections::BTreeSet, fmt};

/// What fails of a training: laws, each with the kind of number that it fails in.
pub type Pattern = BTreeSet<(&'static str, String)>;

/// Random cases per law.
const CASES: u32 = 24;

/// What is wrong with a training loop, as far as can be said.
#[derive(Clone, Debug)]
pub struct TrainingDiagnosis {
    /// What fails.
    pub pattern: Pattern,
    /// The known bugs of which the same fails, and nothing else; or those that come nearest.
    pub bugs: Vec<&'static Bug>,
    /// Whether it is the same and nothing else.
    pub exact: bool,
    /// What was found, a statement for each law that fails.
    pub evidence: Vec<String>,
    /// What could not be decided, and why.
    pub unseen: Vec<String>,
}

impl TrainingDiagnosis {
    /// Holds a subject's loop to the laws of a whole training; `None` where it has none.
    ///
    /// Calls are watched by the default [`Watchdog`](lossproof_subject::Watchdog).
    pub fn of(subject: &mut dyn Subject) -> Option<Self> {
        subject.training_loop()?;
        let campaign =
            Campaign { cases: CASES, shrink: false, control: false, exhaustive: true, ..Campaign::default() };
        let mut reports = Vec::new();
        for law in LAWS.iter().filter(|law| law.needs_training()) {
            // Without case files there is nothing that cannot be read.
            reports.extend(campaign.run(law, subject));
        }
        Some(Self::of_reports(&reports))
    }

    /// What the reports of the laws of a whole training say.
    #[must_use]
    pub fn of_reports(reports: &[Report]) -> Self {
        let (mut pattern, mut evidence, mut unseen) = (Pattern::new(), Vec::new(), Vec::new());
        let mut undecided = BTreeSet::new();
        for report in reports {
            let id = report.law.id();
            if report.verdict == Verdict::Unsupported || report.verdict == Verdict::Unchecked {
                undecided.insert(id);
                let why = report.reason.as_deref().unwrap_or("it was not decided");
                unseen.push(format!("{id}: {why}"));
            }
            let Some(failure) = &report.failure else { continue };
            if let Some(error) = &failure.error {
                pattern.insert((id, "error".to_owned()));
                evidence.push(format!("{id}: {error}"));
            }
            for violation in failure.violations.iter().chain(&failure.elsewhere) {
                pattern.insert((id, kind(&violation.unit)));
            }
            evidence.extend(failure.violations.first().map(|worst| format!("{id}: {worst}")));
        }
        let (exact, bugs) = patterns::bugs_with(&pattern, &undecided);
        Self { pattern, bugs, exact, evidence, unseen }
    }

    /// Whether nothing fails of what could be decided.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.pattern.is_empty()
    }
}

/// What kind of number a unit is: all parameters are one.
fn kind(unit: &str) -> String {
    const KINDS: &[&str] = &[
        "number of updates",
        "skipped updates",
        "number of epochs",
        "samples met never",
        "samples met twice",
        "samples of an update",
        "learning rate",
        "learning rate of one rank",
        "direction of an update",
        "grad norm",
        "logged loss",
        "epoch loss",
        "validation loss",
        "perplexity",
        "number of validations",
        "events",
        "update",
        "update under clipping",
        "update of what is frozen",
        "validation",
        "end of an epoch",
        "order of events",
        "resumed at the end",
        "samples after a change",
        "update under dropout",
        "validation tokens",
        "samples",
        "dropout in training",
        "masks of a seed",
        "masks of another seed",
        "loss",
        "loss that is none",
        "epoch loss that is none",
        "breach",
        "empty policy",
        "token count",
        "skipped update",
        "skipped for a reason",
    ];
    if KINDS.contains(&unit) {
        unit.to_owned()
    } else if unit.ends_with(" stays") {
        "frozen parameters".to_owned()
    } else {
        "parameters".to_owned()
    }
}

impl fmt::Display for TrainingDiagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_sound() {
            f.write_str("of what a training shows nothing is wrong")?;
        }
        for (index, line) in self.evidence.iter().enumerate() {
            write!(f, "{}{line}", if index == 0 { "seen: " } else { "\n      " })?;
        }
        let fails = if self.exact { "fails" } else { "fails nearly, but not wholly," };
        match self.bugs.as_slice() {
            [] if self.is_sound() => {}
            [] => f.write_str("\nno known bug fails in this, and in nothing else")?,
            [bug] => write!(f, "\n{fails} as {} does: {}\n  remedy: {}", bug.id, bug.what, bug.remedy)?,
            alike => {
                write!(f, "\n{fails} as one of {} bugs does, which nothing here tells apart:", alike.len())?;
                for bug in alike {
                    write!(f, "\n  {}: {}", bug.id, bug.what)?;
                }
            }
        }
        for what in &self.unseen {
            write!(f, "\nnot decided: {what}")?;
        }
        Ok(())
    }
}
