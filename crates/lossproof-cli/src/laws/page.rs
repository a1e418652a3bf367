//! What was found of the laws, as a report.

use super::{Found, exit, render::counts};
use crate::report_files::{command_line, outcome};
use lossproof_laws::{Report as LawReport, Summary, Verdict};
use lossproof_report::{Check, CheckOutcome, Checks, Coverage, Part, Report, Section};

/// The whole report.
pub(super) fn report(title: &str, all: &[Found]) -> Report {
    let mut sections = Vec::new();
    let mut counted = Vec::new();
    for found in all {
        let summary = Summary::new(
            &found.subject,
            &found.size,
            found.reports.iter().map(|report| (report, report.verdict)),
        );
        let mut parts = Vec::new();
        for breach in &found.breaches {
            parts.push(Part::Paragraph(format!("Its process broke: {breach}")));
        }
        parts.push(Part::Checks(checks(&found.subject, &found.reports)));
        let certified = if summary.passed() > 0 { vec![summary.certifies()] } else { Vec::new() };
        parts.push(Part::Coverage(Coverage { certified, not_covered: summary.not_covered.clone() }));
        sections.push(Section::new(found.subject.clone(), parts));
        counted.push(format!("{}: {}", found.subject, counts(&summary)));
    }
    Report {
        title: format!("The laws of the loss, {title}"),
        command: command_line(),
        subject: all.iter().map(|found| found.subject.clone()).collect(),
        outcome: outcome(exit(all)),
        summary: format!("{}.", counted.join("; ")),
        sections,
    }
}

/// The laws of a subject, one check each.
pub(crate) fn checks(subject: &str, reports: &[LawReport]) -> Checks {
    let check = |report: &LawReport| match report.failure {
        Some(_) => law_check(report).with_rerun(rerun(report.law.id())),
        None => law_check(report),
    };
    Checks { name: format!("laws of {subject}"), checks: reports.iter().map(check).collect() }
}

/// What was found of a law.
pub(crate) fn law_check(report: &LawReport) -> Check {
    let reason = || report.reason.clone().unwrap_or_default();
    let outcome = match report.verdict {
        Verdict::Pass | Verdict::ExpectedFailure => CheckOutcome::Passed,
        Verdict::Fail => CheckOutcome::Failed("a case breaks it".to_owned()),
        Verdict::UnexpectedPass => CheckOutcome::Failed("it holds, and is said to fail".to_owned()),
        Verdict::Unsupported => CheckOutcome::Skipped(reason()),
        Verdict::Unchecked => CheckOutcome::Unchecked(reason()),
        Verdict::Errored => CheckOutcome::Errored(reason()),
    };
    let clauses: Vec<String> =
        report.law.clauses().map(|clause| format!("{} {}", clause.id, clause.sentence)).collect();
    let mut check = Check::new(report.law.id(), clauses.join(" "), outcome);
    if report.cases > 0 {
        check = check.measured("cases", report.cases as f64).measured("telling", report.telling as f64);
    }
    if let Some(worst) = report.worst.as_ref().filter(|worst| worst.error.is_finite()) {
        check = check.measured("worst", worst.error).measured("bound", worst.bound);
    }
    if let Some(power) = report.power {
        check = check.measured("power", power);
    }
    if let Some(failure) = &report.failure {
        check = check.with_details(failure.to_string());
    }
    check
}

/// The same command for one law alone.
fn rerun(law: &str) -> String {
    let command = command_line();
    if command.contains("--law ") { command } else { format!("{command} --law {law}") }
}
