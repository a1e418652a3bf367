//! The matrix as a person reads it, as Markdown and as JSON.

use super::{alone::Alone, matrix::FaultResult};
use crate::table::{Align, Table};
use lossproof_diagnosis::{Bug, ProbePlan};
use lossproof_laws::Campaign;
use serde_json::{Value, json};
use std::fmt::Write;

/// What the last four columns mean.
const LEGEND: &str = "\
killed by  the first law that fails, those of the clauses that the bug violates before the others; case: the random case
named      what the diagnosis names first; 2. or 3. where the bug comes that far down
fd         finite differences of the reported loss disagree with the gradient, on a plain batch or a ragged one
plain      loss or gradient differ from libtorch's on a plain batch: equal lengths, nothing masked, one micro-batch, the mean
ragged     they differ on a ragged batch of one rank with two micro-batches, without padding, under some global reduction
trace      a loss of twenty steps of AdamW differs in its first four decimals
";

/// Why the numbers of bugs that are named say nothing of bugs that nobody has listed.
pub(super) const IN_SAMPLE: &str = "bugs and hypotheses come from one list";

const SEEN: &str = "x";

fn mark(seen: bool) -> &'static str {
    if seen { SEEN } else { "" }
}

/// What the diagnosis names first, and where the fault stands where that is another one.
pub(super) fn named(row: &FaultResult) -> String {
    let alike: Vec<_> = row.diagnosis.first().into_iter().map(|bug| bug.id).collect();
    match row.place() {
        Some(0) if alike.len() == 1 => "itself".to_owned(),
        Some(0) => format!(
            "itself or {}",
            alike.iter().filter(|id| **id != row.fault.bug.id).copied().collect::<Vec<_>>().join(", ")
        ),
        Some(place) => format!("{}. after {}", place + 1, alike.join(", ")),
        None if row.diagnosis.sound => "nothing wrong".to_owned(),
        None => "no known bug".to_owned(),
    }
}

fn killed_by(row: &FaultResult) -> String {
    row.kills.first().map_or_else(|| "NOTHING".to_owned(), |kill| kill.law.id().to_owned())
}

struct MatrixTotals {
    faults: usize,
    killed: usize,
    first: usize,
    within_three: usize,
    alone: [usize; 4],
}

fn seen(alone: &Alone) -> [bool; 4] {
    [alone.gradient_check, alone.plain_libtorch, alone.ragged_libtorch, alone.trace]
}

fn totals(rows: &[FaultResult]) -> MatrixTotals {
    let count = |what: &dyn Fn(&FaultResult) -> bool| rows.iter().filter(|row| what(row)).count();
    MatrixTotals {
        faults: rows.len(),
        killed: count(&FaultResult::is_killed),
        first: count(&|row| row.place() == Some(0)),
        within_three: count(&|row| row.place().is_some_and(|place| place < 3)),
        alone: [0, 1, 2, 3].map(|column| count(&|row| seen(&row.alone)[column])),
    }
}

pub(super) fn text(rows: &[FaultResult], plan: &ProbePlan, full: bool, told: bool) -> String {
    let mut columns = vec![
        ("fault", Align::Left),
        ("killed by", Align::Left),
        ("case", Align::Right),
        ("ms", Align::Right),
        ("named", Align::Left),
        ("fd", Align::Left),
        ("plain", Align::Left),
        ("ragged", Align::Left),
        ("trace", Align::Left),
    ];
    if full {
        columns.insert(4, ("laws", Align::Right));
    }
    let mut table = Table::new(columns);
    for row in rows {
        let mut cells = vec![row.fault.bug.id.to_owned(), killed_by(row)];
        cells.push(row.kills.first().map_or_else(String::new, |kill| kill.cases.to_string()));
        cells.push(if row.seconds.is_finite() { format!("{:.0}", 1e3 * row.seconds) } else { String::new() });
        if full {
            cells.push(row.kills.len().to_string());
        }
        cells.push(named(row));
        cells.extend(seen(&row.alone).map(|seen| mark(seen).to_owned()));
        table.row(cells);
    }
    let mut text = table.render();
    for row in rows.iter().filter(|_| told) {
        let _ = writeln!(text, "\n{}: {}\n{}", row.fault.bug.id, row.fault.bug.what, row.diagnosis);
    }
    if !told {
        let _ = write!(text, "\n{}\n{LEGEND}\n{plan}\n", summary(&totals(rows)));
    }
    text
}

fn summary(totals: &MatrixTotals) -> String {
    let [fd, plain, ragged, trace] = totals.alone;
    let share = |count: usize| format!("{count} of {}", totals.faults);
    format!(
        "killed by a MUST law: {}; named first: {} ({:.0} %, in-sample: {IN_SAMPLE}), within the first three: {}\n\
         alone: a gradient check {fd}, libtorch on a plain batch {plain}, libtorch on a ragged batch {ragged}, a loss trace {trace}\n",
        share(totals.killed),
        share(totals.first),
        100.0 * totals.first as f64 / totals.faults.max(1) as f64,
        share(totals.within_three),
    )
}

pub(super) fn seen_in(bug: &Bug) -> &'static str {
    bug.source.unwrap_or("no shipped instance known")
}

/// The tables of docs/bugs.md, without anything that differs from one run to the next.
pub(super) fn markdown(rows: &[FaultResult], plan: &ProbePlan) -> String {
    let mut text = String::from(
        "\n| bug | what is wrong | seen in | violates | killed by | laws | named | fd | plain | ragged | trace |\n\
         |---|---|---|---|---|---:|---|---|---|---|---|\n",
    );
    for row in rows {
        let bug = row.fault.bug;
        let marks = seen(&row.alone).map(mark).join(" | ");
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | `{}` | {} | {} | {marks} |",
            bug.id,
            bug.what,
            seen_in(bug),
            bug.clauses.join(", "),
            killed_by(row),
            row.kills.len(),
            named(row),
        );
    }
    let _ = write!(text, "\n```text\n{}\n{LEGEND}\n{plan}\n```\n", summary(&totals(rows)));
    text += "\nBugs of the catalogue that are not re-created:\n\n| bug | what is wrong | seen in | why not |\n|---|---|---|---|\n";
    for (bug, why) in Bug::all().filter_map(|bug| Some((bug, bug.omitted?))) {
        let _ = writeln!(text, "| `{}` | {} | {} | {why} |", bug.id, bug.what, seen_in(bug));
    }
    text.push('\n');
    text
}

pub(super) fn json(rows: &[FaultResult], campaign: &Campaign) -> Value {
    let row = |row: &FaultResult| {
        let [gradient_check, plain_libtorch, ragged_libtorch, trace] = seen(&row.alone);
        json!({
            "fault": row.fault.bug.id,
            "family": row.fault.bug.family.to_string(),
            "clauses": row.fault.bug.clauses,
            "source": row.fault.bug.source,
            "killed": row.is_killed(),
            "kills": row.kills.iter().map(|k| json!({ "law": k.law.id(), "cases": k.cases })).collect::<Vec<_>>(),
            "seconds": row.seconds.is_finite().then_some(row.seconds),
            "candidates": row.diagnosis.candidates.iter().map(|candidate| json!({
                "id": candidate.bug.id,
                "likelihood": candidate.likelihood,
                "predicted": candidate.predicted,
            })).collect::<Vec<_>>(),
            "place": row.place(),
            "evidence": row.diagnosis.evidence,
            "alone": {
                "gradient_check": gradient_check,
                "plain_libtorch": plain_libtorch,
                "ragged_libtorch": ragged_libtorch,
                "trace": trace,
            },
        })
    };
    json!({
        "cases": campaign.cases,
        "seed": campaign.seed,
        "faults": rows.iter().map(row).collect::<Vec<_>>(),
    })
}
