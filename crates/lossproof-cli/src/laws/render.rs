//! The reports as a person reads them, and as JSON.

use super::Found;
use crate::table::{Align, Table};
use lossproof_laws::{Campaign, Failure, Likeness, Report, Summary, Verdict};
use serde_json::{Value, json};
use std::fmt::Write;

/// What the columns mean.
const LEGEND: &str = "\
telling  cases that could have told a violation
worst    the error closest to its bound, relative to the scale of what was compared
power    the smallest relative error of anything compared that some case was certain to catch
";

pub(super) fn text(title: &str, campaign: &Campaign, all: &[Found]) -> String {
    let mut text = format!("{title}, {} random cases per law, seed {}\n", campaign.cases, campaign.seed);
    for found in all {
        let noise = found.reports.iter().map(|report| report.noise).fold(0.0, f64::max);
        let _ = writeln!(text, "\n{}; noise floor {}\n", found.subject, number(noise));
        text += &table(&found.reports);
        text += &failures(&found.reports);
        let summary = Summary::new(
            &found.subject,
            &found.size,
            found.reports.iter().map(|report| (report, report.verdict)),
        );
        let cases: usize = found.reports.iter().map(|report| report.cases).sum();
        let _ = writeln!(
            text,
            "\n{}; {cases} cases in {:.1} s, {:.0} per second",
            counts(&summary),
            found.seconds,
            cases as f64 / found.seconds,
        );
        for breach in &found.breaches {
            let _ = writeln!(text, "its process broke: {breach}");
        }
        if summary.passed() > 0 {
            let _ = writeln!(text, "certified: {}", summary.certifies());
        }
        let _ = writeln!(text, "not covered: {}", summary.not_covered.join("; "));
        if !campaign.control {
            text.push_str("the negative control is not taken at this size\n");
        }
    }
    text.push('\n');
    text + LEGEND
}

/// Every law that failed. What the subject looks like is said once, where it is the same.
fn failures(reports: &[Report]) -> String {
    let mut text = String::new();
    let mut said: Option<(&Likeness, &str)> = None;
    for report in reports {
        let Some(failure) = &report.failure else { continue };
        match (&failure.likeness, said) {
            (Some(likeness), Some((before, law))) if likeness == before => {
                let failure = Failure { likeness: None, ..failure.clone() };
                let without = Report { failure: Some(failure), ..report.clone() };
                let _ = write!(text, "\n{without}\nlooks like: what is said under {law}\n");
            }
            (likeness, _) => {
                said = likeness.as_ref().map(|likeness| (likeness, report.law.id())).or(said);
                let _ = write!(text, "\n{report}\n");
            }
        }
    }
    text
}

/// How many laws have which verdict. That one errored is no verdict on the trainer, and is said where it happened.
pub(super) fn counts(summary: &Summary) -> String {
    let errored = match summary.count(Verdict::Errored) {
        0 => String::new(),
        errored => format!(", {errored} errored"),
    };
    format!(
        "{} passed, {} failed{errored}, {} unchecked, {} unsupported",
        summary.count(Verdict::Pass),
        summary.count(Verdict::Fail),
        summary.count(Verdict::Unchecked),
        summary.count(Verdict::Unsupported),
    )
}

fn table(reports: &[Report]) -> String {
    let mut table = Table::new([
        ("clause", Align::Left),
        ("law", Align::Left),
        ("cases", Align::Right),
        ("telling", Align::Right),
        ("worst", Align::Right),
        ("bound", Align::Right),
        ("power", Align::Right),
        ("verdict", Align::Left),
    ]);
    for report in reports {
        let clauses: Vec<_> = report.law.clauses().map(|clause| clause.id).collect();
        let (worst, bound) = match &report.worst {
            // What is no number has no distance from its bound.
            Some(worst) if worst.error.is_finite() => (number(worst.error), number(worst.bound)),
            _ => (String::new(), String::new()),
        };
        let reason = report.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        table.row([
            clauses.join(", "),
            report.law.id().to_owned(),
            report.cases.to_string(),
            report.telling.to_string(),
            worst,
            bound,
            match report.power {
                Some(power) => number(power),
                None if report.cases > 0 => "none".to_owned(),
                None => String::new(),
            },
            format!("{}{reason}", report.verdict),
        ]);
    }
    table.render()
}

fn number(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") }
}

pub(super) fn json(title: &str, campaign: &Campaign, all: &[Found]) -> Value {
    let report = |report: &Report| {
        json!({
            "law": report.law.id(),
            "clauses": report.law.clauses().map(|clause| clause.id).collect::<Vec<_>>(),
            "verdict": report.verdict.to_string().to_lowercase(),
            "cases": report.cases,
            "telling": report.telling,
            "compared": report.compared,
            "worst": report.worst.as_ref().map(|w| json!({ "at": w.at, "error": w.error, "bound": w.bound })),
            "power": report.power,
            "noise": report.noise,
            "reason": report.reason,
            "failure": report.failure.as_ref().map(|failure| json!({
                "case": failure.case,
                "said": failure.to_string(),
            })),
        })
    };
    let found = |found: &Found| {
        json!({
            "subject": found.subject,
            "seconds": found.seconds,
            "laws": found.reports.iter().map(report).collect::<Vec<_>>(),
        })
    };
    json!({
        "config": title,
        "cases": campaign.cases,
        "seed": campaign.seed,
        "subjects": all.iter().map(found).collect::<Vec<_>>(),
    })
}
