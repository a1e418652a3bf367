//! The kill matrix as a report.

use super::{matrix::FaultResult, patterns, render};
use crate::{
    exit::Exit,
    report_files::{command_line, outcome},
};
use lossproof_report::{Check, CheckOutcome, Checks, Kill, KillMatrix, KillRow, Part, Report, Section};
use std::collections::BTreeSet;

/// Which law fails under each bug of a step. Where the search ends with the first, laws behind it are not tried.
pub(super) fn report(rows: &[FaultResult], full: bool, exit: Exit) -> Report {
    let found = rows.iter().map(|row| FoundBug {
        id: row.fault.bug.id,
        what: row.fault.bug.what,
        laws: row.kills.iter().map(|kill| kill.law.id()).collect(),
        is_first: row.place() == Some(0),
        is_named: row.place().is_some_and(|place| place < 3),
        is_killed: row.is_killed(),
        named: render::named(row),
    });
    of_bugs(&found.collect::<Vec<_>>(), full, exit)
}

/// Which law fails under each bug of a loop, or of an objective.
pub(super) fn of_patterns(rows: &[patterns::Row], exit: Exit) -> Report {
    let found = rows.iter().map(|row| FoundBug {
        id: row.bug.id,
        what: row.bug.what,
        laws: row.laws(),
        is_first: row.is_named(),
        is_named: row.is_named(),
        is_killed: row.killed_by.is_some(),
        named: row.named(),
    });
    of_bugs(&found.collect::<Vec<_>>(), true, exit)
}

/// What became of a bug.
struct FoundBug {
    id: &'static str,
    what: &'static str,
    /// The laws that fail under it.
    laws: Vec<&'static str>,
    /// Whether it is what is named first.
    is_first: bool,
    /// Whether it is among what is named.
    is_named: bool,
    is_killed: bool,
    /// What is named, in words.
    named: String,
}

fn of_bugs(bugs: &[FoundBug], full: bool, exit: Exit) -> Report {
    let laws: BTreeSet<&'static str> = bugs.iter().flat_map(|bug| bug.laws.iter().copied()).collect();
    let matrix = KillMatrix {
        caption: "Which law fails under each bug".to_owned(),
        columns: laws.iter().map(|law| (*law).to_owned()).collect(),
        rows: bugs.iter().map(|bug| kill_row(bug, &laws, full)).collect(),
    };
    let checks = Checks { name: "bugs".to_owned(), checks: bugs.iter().map(check).collect() };
    let count = |is: fn(&FoundBug) -> bool| bugs.iter().filter(|bug| is(bug)).count();
    Report {
        title: "Bugs and the laws that find them".to_owned(),
        command: command_line(),
        subject: vec!["bugs of the catalogue, injected into the reference".to_owned()],
        outcome: outcome(exit),
        summary: format!(
            "{} of {} bugs are killed and {} named first; {}.",
            count(|bug| bug.is_killed),
            bugs.len(),
            count(|bug| bug.is_first),
            render::IN_SAMPLE
        ),
        sections: vec![
            Section::new("Kill matrix", vec![Part::KillMatrix(matrix)]),
            Section::new("Bugs", vec![Part::Checks(checks)]),
        ],
    }
}

fn kill_row(bug: &FoundBug, laws: &BTreeSet<&'static str>, full: bool) -> KillRow {
    let mut cells = Vec::new();
    for law in laws {
        cells.push(match (bug.laws.contains(law), full) {
            (true, _) if bug.is_first => Kill::Named,
            (true, _) => Kill::Killed,
            (false, true) => Kill::Missed,
            (false, false) => Kill::Untried,
        });
    }
    KillRow { bug: bug.id.to_owned(), cells }
}

fn check(bug: &FoundBug) -> Check {
    let outcome = match (bug.is_killed, bug.is_named) {
        (false, _) => CheckOutcome::Failed("no law fails".to_owned()),
        (true, true) => CheckOutcome::Passed,
        (true, false) => CheckOutcome::Failed(format!("it is killed, and taken for {}", bug.named)),
    };
    Check::new(bug.id, bug.what, outcome).with_details(format!(
        "fails: {}\nnamed: {}",
        bug.laws.join(", "),
        bug.named
    ))
}
