//! What is wrong with a training loop, or with what is learnt beside the next token: the laws of it that a trainer
//! breaks, and in what, held to what each known bug breaks.
//!
//! Both show much less than a step: not one of a loop's numbers can be asked for at parameters of our choice, and an
//! objective has a mean and its gradient. So a bug is known by the pattern of what fails. A pattern that several bugs
//! have is that of all of them, and a bug that nobody has listed may have it, too.

mod likeness;
mod objectives;
mod ranks;
mod soft_targets;
mod training;

use crate::catalogue::Bug;
use lossproof_laws::{Aspect, Campaign, LAWS, Law, Report, Verdict};
use lossproof_spec::CLAUSES;
use lossproof_subject::{Checked, Subject, Watchdog};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What fails: laws, each with what it fails in.
pub type Pattern = BTreeSet<(&'static str, String)>;

/// Bugs, and the laws and what they fail in under each of them.
type Row = (&'static [&'static str], &'static [(&'static str, &'static str)]);

/// Random cases per law.
const CASES: u32 = 24;

/// What a trainer that does not answer fails in.
const ERROR: &str = "error";

/// What a wrong count of tokens fails in.
const TOKEN_COUNT: &str = "token count";

/// How much of two patterns must be the same for one to be near the other.
const NEAR: f64 = 0.75;

/// What a pattern is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A whole training.
    Training,
    /// What is learnt beside the next token.
    Objectives,
    /// A whole training whose ranks are apart.
    Ranks,
}

impl Of {
    fn laws(self) -> impl Iterator<Item = &'static Law> {
        let aspect = match self {
            Self::Training | Self::Ranks => Aspect::Training,
            Self::Objectives => Aspect::Objective,
        };
        LAWS.iter().filter(move |law| law.aspect() == aspect)
    }

    /// Ranks that are apart have the bugs of a loop besides their own.
    fn rows(self) -> impl Iterator<Item = &'static Row> {
        let (own, more): (&[Row], &[Row]) = match self {
            Self::Training => (training::PATTERNS, &[]),
            Self::Objectives => (objectives::PATTERNS, &[]),
            Self::Ranks => (ranks::PATTERNS, training::PATTERNS),
        };
        own.iter().chain(more)
    }

    fn bug(self, id: &str) -> Option<&'static Bug> {
        match self {
            Self::Training => Bug::of_training().find(|bug| bug.id == id),
            Self::Objectives => Bug::of_objectives().find(|bug| bug.id == id),
            Self::Ranks => Bug::of_ranks().chain(Bug::of_training()).find(|bug| bug.id == id),
        }
    }

    /// The bugs that fail in this and in nothing else, as far as it is looked at; or else those that come nearest,
    /// where more than three quarters of what either fails in is the same. Says whether they are exact.
    fn nearest(self, pattern: &Pattern, looked_at: impl Fn(&str, &str) -> bool) -> (bool, Vec<&'static Bug>) {
        let (mut best, mut found) = (NEAR, Vec::new());
        let pattern: BTreeSet<(&str, &str)> = pattern
            .iter()
            .map(|(law, kind)| (*law, kind.as_str()))
            .filter(|(law, kind)| looked_at(law, kind))
            .collect();
        // That something is not answered can have any reason.
        if pattern.iter().all(|(_, kind)| *kind == ERROR) {
            return (false, found);
        }
        for (bugs, forecast) in self.rows() {
            let forecast: BTreeSet<(&str, &str)> =
                forecast.iter().copied().filter(|(law, kind)| looked_at(law, kind)).collect();
            let common = pattern.intersection(&forecast).count();
            let share = common as f64 / pattern.union(&forecast).count() as f64;
            if share > best {
                (best, found) = (share, Vec::new());
            }
            if share >= best {
                found.extend(bugs.iter().filter_map(|id| self.bug(id)));
            }
        }
        (best >= 1.0, found)
    }
}

/// What is wrong with a training loop or with an objective, as far as can be said.
#[derive(Clone, Debug)]
pub struct PatternDiagnosis {
    of: Of,
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
    /// What known bugs of a loop fail in and laws that decided did not compare: laws, each with a kind of number.
    pub not_compared: Vec<(&'static str, &'static str)>,
}

impl PatternDiagnosis {
    /// Holds a subject's loop to the laws of a whole training; `None` where it has none.
    ///
    /// Calls are watched by the default [`Watchdog`](lossproof_subject::Watchdog).
    pub fn of_training(subject: &mut dyn Subject) -> Option<Self> {
        Self::watched(Of::Training, subject, &Watchdog::default(), CASES)
    }

    /// Holds a subject's loop, whose ranks are apart, to the laws of a whole training, and looks for a bug of ranks;
    /// `None` where it has no loop.
    ///
    /// Calls are watched by the default [`Watchdog`](lossproof_subject::Watchdog).
    pub fn of_ranks(subject: &mut dyn Subject) -> Option<Self> {
        Self::watched(Of::Ranks, subject, &Watchdog::default(), CASES)
    }

    /// Holds what a subject learns beside the next token to its laws, and a wrong loss of distributions to what is
    /// often made of it; `None` where it learns nothing else.
    ///
    /// Calls are watched by the default [`Watchdog`](lossproof_subject::Watchdog).
    pub fn of_objectives(subject: &mut dyn Subject) -> Option<Self> {
        Self::watched(Of::Objectives, subject, &Watchdog::default(), CASES)
    }

    /// One of these, with a watchdog of the caller's and no more cases than the caller has.
    pub(crate) fn watched(
        of: Of,
        subject: &mut dyn Subject,
        watchdog: &Watchdog,
        cases: u32,
    ) -> Option<Self> {
        let mut checked = Checked::watched(subject, watchdog.clone()).ok()?;
        let has_it = match of {
            Of::Training | Of::Ranks => checked.training_loop().is_some(),
            Of::Objectives => checked.objectives().is_some(),
        };
        if !has_it {
            return None;
        }
        drop(checked);
        let mut found = Found::of_reports(&reports(of, subject, watchdog, cases.min(CASES)));
        if of != Of::Objectives {
            return Some(Self::of_training_laws(of, found));
        }
        if found.pattern.iter().any(|(law, _)| *law == soft_targets::LAW)
            && let Some(reading) = soft_targets::reading(subject, watchdog)
        {
            found.pattern.insert((soft_targets::LAW, reading.to_owned()));
            found.evidence.push(format!("{}: the loss is {reading}", soft_targets::LAW));
        }
        // A trainer that counts no tokens cannot count them wrongly.
        let counts = objectives::counts_tokens(subject, watchdog);
        let Found { pattern, evidence, unseen, undecided, .. } = found;
        let looked_at = |law: &str, kind: &str| !undecided.contains(law) && (counts || kind != TOKEN_COUNT);
        let (exact, bugs) = of.nearest(&pattern, looked_at);
        Some(Self { of, pattern, bugs, exact, evidence, unseen, not_compared: Vec::new() })
    }

    /// What the laws of a training found. What a loop does not log it cannot log wrongly: of laws that were decided,
    /// only what they compared is looked at.
    fn of_training_laws(of: Of, found: Found) -> Self {
        let Found { pattern, evidence, unseen, undecided, compared } = found;
        let looked_at = |law: &str, kind: &str| {
            let is_compared = || compared.get(law).is_some_and(|kinds| kinds.contains(kind));
            !undecided.contains(law) && (!is_number(kind) || is_compared())
        };
        let (exact, bugs) = of.nearest(&pattern, looked_at);
        let forecast = of.rows().flat_map(|(_, forecast)| forecast.iter().copied());
        let not_compared = forecast.filter(|(law, kind)| !undecided.contains(law) && !looked_at(law, kind));
        let not_compared = not_compared.collect::<BTreeSet<_>>().into_iter().collect();
        Self { of, pattern, bugs, exact, evidence, unseen, not_compared }
    }

    /// The law of a clause that a bug violates, if one fails.
    #[must_use]
    pub fn law_against(&self, bug: &Bug) -> Option<&'static str> {
        let violated = CLAUSES.iter().filter(|clause| bug.clauses.contains(&clause.id));
        let fails = |id: &&str| self.pattern.iter().any(|(law, _)| law == id);
        violated.map(|clause| clause.law).find(fails)
    }

    /// Whether nothing fails of what could be decided.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.pattern.is_empty()
    }
}

/// The laws of this on a subject.
fn reports(of: Of, subject: &mut dyn Subject, watchdog: &Watchdog, cases: u32) -> Vec<Report> {
    let campaign = Campaign {
        cases,
        shrink: false,
        control: false,
        exhaustive: true,
        watchdog: watchdog.clone(),
        ..Campaign::default()
    };
    // Without case files there is nothing that cannot be read.
    of.laws().filter_map(|law| campaign.run(law, subject).ok()).collect()
}

/// What reports say.
#[derive(Default)]
struct Found {
    pattern: Pattern,
    evidence: Vec<String>,
    unseen: Vec<String>,
    undecided: BTreeSet<&'static str>,
    /// The kinds of numbers that each law of a training compared.
    compared: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Found {
    fn of_reports(reports: &[Report]) -> Self {
        let mut found = Self::default();
        for report in reports {
            let id = report.law.id();
            found.compared.insert(id, report.looked_at.iter().map(|unit| kind(unit)).collect());
            if report.verdict == Verdict::Unsupported || report.verdict == Verdict::Unchecked {
                found.undecided.insert(id);
                let why = report.reason.as_deref().unwrap_or("it was not decided");
                found.unseen.push(format!("{id}: {why}"));
            }
            let Some(failure) = &report.failure else {
                // A breach before the first case.
                if matches!(report.verdict, Verdict::Fail | Verdict::Errored) {
                    found.pattern.insert((id, ERROR.to_owned()));
                    found.evidence.extend(report.reason.iter().map(|reason| format!("{id}: {reason}")));
                }
                continue;
            };
            if let Some(error) = &failure.error {
                let kind = ranks::apart(error).unwrap_or(ERROR);
                found.pattern.insert((id, kind.to_owned()));
                found.evidence.push(format!("{id}: {error}"));
            }
            for violation in failure.violations.iter().chain(&failure.elsewhere) {
                let kind = if report.law.needs_training() {
                    kind(&violation.unit)
                } else {
                    objectives::check(violation)
                };
                found.pattern.insert((id, kind));
            }
            found.evidence.extend(failure.violations.first().map(|worst| format!("{id}: {worst}")));
        }
        found
    }
}

/// What kind of number a unit is: all parameters are one.
fn kind(unit: &str) -> String {
    if KINDS.contains(&unit) {
        unit.to_owned()
    } else if unit.ends_with(" stays") {
        FROZEN.to_owned()
    } else {
        PARAMETERS.to_owned()
    }
}

/// Whether this is a kind of what laws compare, and not one that is mentioned only where it is wrong.
fn is_number(kind: &str) -> bool {
    !ONLY_WRONG.contains(&kind) && (KINDS.contains(&kind) || kind == FROZEN || kind == PARAMETERS)
}

/// Kinds that laws mention only where something is wrong with them.
const ONLY_WRONG: &[&str] = &["breach", "epoch loss that is none", "order of events"];

const FROZEN: &str = "frozen parameters";
const PARAMETERS: &str = "parameters";

/// What else units of the laws of a training are of.
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
    "loss that is none beside others",
    "scale of what is kept",
    "masks of an update",
    "epoch loss that is none",
    "breach",
    "empty policy",
    "token count",
    "skipped update",
    "skipped for a reason",
];

impl fmt::Display for PatternDiagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_sound() {
            f.write_str(match self.of {
                Of::Training | Of::Ranks => "of what a training shows nothing is wrong",
                Of::Objectives => "of what is learnt beside the next token nothing is wrong",
            })?;
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
