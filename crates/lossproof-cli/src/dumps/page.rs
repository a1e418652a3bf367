//! What was found in files that a trainer left, as a report.

use super::{answers, cells, finding_words};
use crate::{
    exit::Exit,
    report_files::{command_line, outcome},
    table::Align,
    tomography::page::heat_maps,
};
use lossproof_diagnosis::tomography::Agreement;
use lossproof_dumps::{CheckedCase, Finding, Inspection, Manifest, Outcome};
use lossproof_report::{Check, CheckOutcome, Checks, Column, Part, Report, Section, Table, TableCell};
use std::path::Path;

/// The answers to an export.
pub(super) fn of_answers(manifest: &Manifest, cases: &[CheckedCase], exit: Exit) -> Report {
    let checks = cases.iter().flat_map(|case| [loss(case), answer(manifest, case)]).collect();
    let mut sections =
        vec![Section::new("Cases", vec![Part::Checks(Checks { name: "answers".to_owned(), checks })])];
    if let Some((case, scan)) = answers::first_other(cases) {
        sections.push(Section::new(
            format!("What every prediction of case {} weighs", case.name),
            heat_maps(&case.batch, &manifest.claim, scan),
        ));
    }
    Report {
        title: "Answers to an export".to_owned(),
        command: command_line(),
        subject: vec![manifest.model.name.clone(), format!("claimed: {}", manifest.claim)],
        outcome: outcome(exit),
        summary: format!("{}.", answers::verdict(cases)),
        sections,
    }
}

/// The loss of a case, which a trainer need not have left.
fn loss(case: &CheckedCase) -> Check {
    let nothing = || CheckOutcome::Skipped("no loss was left".to_owned());
    let check =
        |outcome| Check::new(format!("case {} loss", case.name), "the loss is the expected one", outcome);
    let Outcome::Checked { loss, .. } = &case.outcome else { return check(nothing()) };
    match loss {
        None => check(nothing()),
        Some(loss) => {
            let outcome = if loss.agrees() {
                CheckOutcome::Passed
            } else {
                CheckOutcome::Failed("it is another one".to_owned())
            };
            check(outcome).measured("loss", loss.found).measured("expected", loss.expected)
        }
    }
}

fn answer(manifest: &Manifest, case: &CheckedCase) -> Check {
    let outcome = match (&case.outcome, case.agreement()) {
        (Outcome::Missing, _) => CheckOutcome::Unchecked("there is no answer".to_owned()),
        (Outcome::Unreadable(error), _) => CheckOutcome::Errored(error.to_string()),
        (_, Agreement::Agrees) => CheckOutcome::Passed,
        (_, Agreement::Disagrees) => CheckOutcome::Failed("loss or gradient is another one".to_owned()),
        (_, Agreement::Undecided) => CheckOutcome::Unchecked("the weights may be other ones".to_owned()),
    };
    let what = format!("what was left is that of the {}", manifest.claim);
    let mut check = Check::new(format!("case {}", case.name), what, outcome);
    if let Outcome::Checked { worst: Some((_, error)), .. } = &case.outcome {
        check = check.measured("furthest gradient", *error);
    }
    check.with_details(answers::remarks(case))
}

/// What gradients are held to: the name of the check, what holds, and the kind of finding that says otherwise.
const HELD_TO: [(&str, &str, &str); 5] = [
    ("finite", "every gradient is a number", "not-finite"),
    ("there", "every parameter has a gradient", "missing"),
    ("not zero", "no gradient is zero everywhere", "zero"),
    ("in line", "every gradient is about as large as those of the other blocks", "out-of-line"),
    ("distinct", "no two gradients are the same", "equal"),
];

/// How many things are wrong, and how many may be meant so.
fn summary(inspection: &Inspection) -> String {
    let wrong = inspection.findings.iter().filter(|finding| finding.is_certain()).count();
    let unclear = inspection.findings.len() - wrong;
    let wrong = match wrong {
        _ if inspection.states.is_empty() => "There is no gradient.".to_owned(),
        0 => "Nothing is wrong with them by themselves.".to_owned(),
        1 => "One thing is wrong with them.".to_owned(),
        wrong => format!("{wrong} things are wrong with them."),
    };
    match unclear {
        0 => wrong,
        1 => format!("{wrong} One thing is to be looked at."),
        unclear => format!("{wrong} {unclear} things are to be looked at."),
    }
}

/// A dump of gradients by itself.
pub(super) fn of_gradients(dump: &Path, inspection: &Inspection, exit: Exit) -> Report {
    let mut checks = Vec::new();
    for (id, what, kind) in HELD_TO {
        let found: Vec<&Finding> =
            inspection.findings.iter().filter(|finding| finding.kind() == kind).collect();
        let said: Vec<String> = found.iter().map(|finding| finding_words::said(finding)).collect();
        let outcome = match found.len() {
            _ if inspection.states.is_empty() => CheckOutcome::Unchecked("there is no gradient".to_owned()),
            0 if id == "in line" && inspection.with_siblings == 0 => {
                CheckOutcome::Skipped("no gradient has enough siblings".to_owned())
            }
            0 => CheckOutcome::Passed,
            _ if !found.iter().any(|finding| finding.is_certain()) => {
                CheckOutcome::Skipped("to be looked at: it may be meant so".to_owned())
            }
            count => CheckOutcome::Failed(format!("{count} found")),
        };
        checks.push(Check::new(id, what, outcome).with_details(said.join("\n")));
    }
    let table = Table {
        caption: "Every gradient".to_owned(),
        columns: cells::COLUMNS
            .into_iter()
            .map(|(name, align)| match align {
                Align::Left => Column::words(name),
                Align::Right => Column::numbers(name),
            })
            .collect(),
        rows: inspection
            .states
            .iter()
            .map(|(name, state)| cells::row(name, state).into_iter().map(TableCell::plain).collect())
            .collect(),
    };
    Report {
        title: "A dump of gradients".to_owned(),
        command: command_line(),
        subject: vec![dump.display().to_string()],
        outcome: outcome(exit),
        summary: summary(inspection),
        sections: vec![
            Section::new(
                "What they were held to",
                vec![Part::Checks(Checks { name: "gradients".to_owned(), checks })],
            ),
            Section::new("Gradients", vec![Part::Table(table)]),
        ],
    }
}
