//! What the tests of a run decided, gathered for its last lines.

use lossproof_cases::strategies::Size;
use lossproof_laws::{Law, Report, Summary, Verdict, expectations::Outcome};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Characters of a reason that stand before the name of an ignored test. The longest of all reasons is how far every
/// line is indented.
const SHORT: usize = 100;

/// A reason as it stands before the name of a test: the beginning of it where it is long.
pub(crate) fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

/// What one test decided.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) subject: String,
    pub(crate) report: Report,
    /// The verdict after expectations.
    pub(crate) verdict: Verdict,
    /// What was found; `None` where the test ended before anything was.
    pub(crate) outcome: Option<Outcome>,
    /// Whether `lossproof.toml` consents to this law being undecided, while it demands that another decides.
    pub(crate) excused: bool,
}

impl Decided {
    /// By a test that ended without a report.
    pub(crate) fn errored(subject: String, law: &'static Law, what: String) -> Self {
        let verdict = Verdict::Errored;
        let report = Report { verdict, ..Report::unsupported(law, what) };
        Self { subject, report, verdict, outcome: None, excused: false }
    }
}

/// What all tests decided so far. Tests run on many threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    decided: Arc<Mutex<Vec<Decided>>>,
    ruled_out: Arc<Mutex<Vec<(String, Report)>>>,
    sizes: Arc<Mutex<BTreeMap<String, Size>>>,
}

impl Outcomes {
    pub(crate) fn add(&self, decided: Decided) {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner).push(decided);
    }

    /// Notes the size of a subject's batches.
    pub(crate) fn sized(&self, subject: &str, size: Size) {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(subject.to_owned(), size);
    }

    /// Notes that a subject's card rules a law out.
    pub(crate) fn ruled_out(&self, subject: &str, law: &'static Law, what: &str) {
        let report = Report::unsupported(law, what.to_owned());
        self.ruled_out.lock().unwrap_or_else(PoisonError::into_inner).push((subject.to_owned(), report));
    }

    /// Prints what is certified of each subject that a law ran on, or of all where the run is whole. Whether
    /// something passed for every one of them, or did not have to.
    pub(crate) fn tell(&self, subjects: &[&str], whole: bool) -> bool {
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        let ruled_out = self.ruled_out.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut green = true;
        for subject in subjects {
            let own: Vec<&Decided> = decided.iter().filter(|decided| decided.subject == *subject).collect();
            let none: Vec<&Report> =
                ruled_out.iter().filter(|(of, _)| of == subject).map(|(_, report)| report).collect();
            if own.is_empty() && !whole {
                tell_reasons(&none);
                continue;
            }
            let ran = own.iter().map(|decided| (&decided.report, decided.verdict));
            let summary = Summary::new(
                subject,
                sizes.get(*subject).unwrap_or(&Size::default()),
                ran.chain(none.iter().map(|report| (*report, report.verdict))),
            );
            eprintln!("{summary}");
            tell_reasons(&none);
            // What is red failed as a test of its own. A run in which nothing passed certifies nothing, so it
            // is no success either. Excused is a part of a run, such as the one law that nextest runs alone,
            // of laws that `lossproof.toml` lets stay undecided while it demands of others that they decide:
            // those are red in their own tests unless they do. A whole run has these tests in it, and without
            // such a file nothing demands anything.
            let excused = !whole && own.iter().all(|decided| decided.excused);
            if summary.passed() == 0 && !excused {
                green = false;
                eprintln!("error: nothing passed for {subject}, so nothing is certified");
            }
        }
        green
    }

    /// The outcomes, for a draft of the expectations.
    pub(crate) fn drafted(&self) -> Vec<(String, Outcome)> {
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        let found = |decided: &Decided| Some((decided.subject.clone(), decided.outcome.clone()?));
        decided.iter().filter_map(found).collect()
    }
}

fn tell_reasons(ruled_out: &[&Report]) {
    for (reason, laws) in shortened_reasons(ruled_out) {
        eprintln!("  unsupported ({}): {reason}", laws.join(", "));
    }
}

/// The reasons that are too long to stand before the names of tests, each with the laws that it rules out.
fn shortened_reasons<'a>(ruled_out: &[&'a Report]) -> BTreeMap<&'a str, Vec<&'static str>> {
    let mut reasons: BTreeMap<&str, Vec<&'static str>> = BTreeMap::new();
    for report in ruled_out {
        if let Some(reason) = report.reason.as_deref().filter(|reason| shortened(reason) != *reason) {
            reasons.entry(reason).or_default().push(report.law.id());
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_laws::LAWS;

    #[test]
    fn a_long_reason_is_said_in_full_with_the_laws_that_it_rules_out() {
        let long = "é".repeat(SHORT + 1);
        let reports = [(0, long.as_str()), (1, "short"), (2, &long)]
            .map(|(law, reason)| Report::unsupported(&LAWS[law], reason.to_owned()));
        let all: Vec<&Report> = reports.iter().collect();
        let laws = vec![LAWS[0].id(), LAWS[2].id()];
        assert_eq!(shortened_reasons(&all), BTreeMap::from([(long.as_str(), laws)]));
        assert_eq!(shortened(&long).chars().count(), SHORT + 1);
        assert_eq!(shortened("short"), "short");
    }
}
