//! The report as a person reads it.

use crate::table::{Align, Table};
use lossproof_gpt2::Config;
use lossproof_spec::GlobalBatch;
use lossproof_verify::{BoundFrom, Report, StatementRow, Verdict};
use std::{fmt::Write, time::Duration};

/// What was verified.
pub(crate) struct Heading<'a> {
    pub(crate) text: &'a str,
    pub(crate) config: Config,
    pub(crate) batch: &'a GlobalBatch,
}

pub(crate) fn report(heading: &Heading<'_>, report: &Report, took: Duration, peak: Option<usize>) -> String {
    let mut text = head(heading, report);
    text.push('\n');
    text += &table(report);
    text.push('\n');
    text += LEGEND;
    text += &rounding_distance(report);
    for row in report.rows.iter().filter(|row| row.verdict != Verdict::Pass) {
        text.push('\n');
        text += &detail(row);
    }
    if !report.blames.is_empty() {
        text += "\nWho is wrong:\n";
        for blame in &report.blames {
            let _ = writeln!(text, "  {blame}");
        }
    }
    let controlled = report.rows.iter().filter(|row| row.verdict == Verdict::Pass).count();
    let _ = writeln!(
        text,
        "\nnegative control: {controlled} rows passed, and failed with any one answer altered by 4 × their power"
    );
    let memory = peak
        .map_or_else(String::new, |bytes| format!(", peak memory {:.2} GiB", bytes as f64 / 1_073_741_824.0));
    let _ = writeln!(text, "took {:.1} s{memory}", took.as_secs_f64());
    let count = |verdict| report.count(verdict);
    let _ = writeln!(
        text,
        "{} passed, {} failed, {} unchecked",
        count(Verdict::Pass),
        count(Verdict::Fail),
        count(Verdict::Unchecked)
    );
    text
}

fn head(heading: &Heading<'_>, report: &Report) -> String {
    let layout = heading.batch.layout();
    let mut text = String::new();
    let shape = heading.config.shape();
    let _ = writeln!(
        text,
        "{}, {} parameters, on {}",
        heading.config,
        crate::number::grouped(shape.parameter_count()),
        heading.text
    );
    let micro_batches: Vec<_> = layout
        .ranks()
        .iter()
        .map(|rank| {
            let tokens = |m: &Vec<lossproof_spec::SequenceShape>| {
                m.iter().map(|s| s.supervised).sum::<usize>().to_string()
            };
            rank.iter().map(tokens).collect::<Vec<_>>().join(" + ")
        })
        .collect();
    let _ = writeln!(
        text,
        "batch: {} sequences on {} ranks; supervised tokens by micro-batch ({}), {} of {} predictions",
        layout.sequences().count(),
        layout.ranks().len(),
        micro_batches.join(") + ("),
        layout.supervised(),
        layout.predictions()
    );
    for participant in &report.participants {
        let _ = writeln!(text, "  {participant}");
    }
    let _ = writeln!(text, "noise floor: {}", number(report.noise_floor));
    text.replace('\u{a0}', " ")
}

fn table(report: &Report) -> String {
    let mut table = Table::new([
        ("", Align::Left),
        ("statement", Align::Left),
        ("worst error", Align::Right),
        ("bound", Align::Right),
        ("from", Align::Left),
        ("power", Align::Right),
        ("verdict", Align::Left),
    ]);
    let mut semantics = None;
    for row in &report.rows {
        if row.semantics != semantics {
            semantics = row.semantics;
            table.row([String::new()]);
            table.row([String::new(), row.semantics.unwrap_or_default().to_uppercase()]);
        }
        table.row([
            row.subject.clone(),
            row.text.clone(),
            number(row.worst.error),
            number(row.worst.bound),
            row.bound_from.to_string(),
            row.power.map_or_else(|| "none".to_owned(), number),
            row.verdict.to_string(),
        ]);
    }
    table.render()
}

/// What the columns mean.
const LEGEND: &str = "\
∇ is the gradient of every parameter; errors are relative to the scale of the tensor, the worst one is shown.
bound from  rounding: what rounding may do at this shape and dtype; plateau: what finite differences resolve;
            4 × other: four times the other implementation's own distance from the f64 truth, but no less
            than the rounding error to be expected and no more than the bound of rounding
power       the smallest relative error of any tensor that the row is certain to catch
";

/// How far apart trainer and reference are, and what the law says where it is all there is.
fn rounding_distance(report: &Report) -> String {
    let Some(distance) = &report.rounding_distance else { return String::new() };
    let (measured, at) = (distance.measured, &distance.at);
    let mut text = format!("apart       {measured:.2} × the rounding error to be expected, at {at}\n");
    if report.rows.iter().any(|row| row.bound_from == BoundFrom::Extrapolated) {
        let _ = writeln!(
            text,
            "extrapolated: no f64 truth fits in memory; {} × the rounding error to be expected is the law fitted on \
             the\n            smaller sizes",
            distance.fitted
        );
    }
    text
}

fn detail(row: &StatementRow) -> String {
    let under = row.semantics.map_or_else(String::new, |name| format!(" under the {name}"));
    let why = row.unchecked.as_ref().map_or_else(String::new, |why| format!("  unchecked: {why}\n"));
    format!(
        "{}: {}: {}{under}\n  worst at {}: error {}, bound {} ({}); {} comparisons\n{why}",
        row.verdict,
        row.subject,
        row.text,
        row.worst.at,
        number(row.worst.error),
        number(row.worst.bound),
        row.bound_from,
        row.compared
    )
}

fn number(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") }
}
