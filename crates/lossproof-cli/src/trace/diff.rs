//! `lossproof trace diff`: where two logs part first, in what, and by which factor.

use super::{
    NameArgs,
    equals::Known,
    page::{self, covered},
};
use crate::{
    exit::Exit, explain::BatchShape, number::grouped, output, report_files::ReportFiles, text::paragraph,
};
use lossproof_logs::{Comparison, Curve, Factor, Log, Parting, Place, Ratio, Settings, compare};
use lossproof_trace::Plot;
use miette::IntoDiagnostic;
use serde_json::json;
use std::{fmt::Write, path::PathBuf};

/// Say where two logs part first, in what, and what the factor between them equals.
///
/// The logs may be of different trainers, with other names and other steps between their lines. They are lined up by
/// updates, or by tokens where updates are of other sizes. Ends with 0 when they agree, with 1 when they do not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof trace diff before.jsonl after.jsonl --micro-batches 8\n  \
                        lossproof trace diff trainer_state.json main.log --by tokens\n  \
                        lossproof trace diff a.jsonl b.jsonl --name \"train/lm loss=loss\" --json diff.json")]
pub(crate) struct Args {
    /// The log that is held to be right.
    #[arg(value_name = "A")]
    first: PathBuf,
    /// The other one.
    #[arg(value_name = "B")]
    second: PathBuf,
    /// What to line them up by.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// By how much two numbers may differ, relative to the larger; by default the square root of the unit round-off.
    #[arg(long, value_name = "E")]
    tolerance: Option<f64>,
    #[command(flatten)]
    names: NameArgs,
    #[command(flatten)]
    shape: BatchShape,
    /// Also write the comparison as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    files: ReportFiles,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum By {
    /// The number of the update.
    Update,
    /// Tokens seen so far.
    Tokens,
}

/// Compares two logs and says on stdout where they part.
///
/// # Errors
/// When a log cannot be read, or they have nothing in common.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    output::check_writable(args.json.as_deref())?;
    args.files.check_writable()?;
    let known = Known::new(&args.shape)?;
    let [first, second] = [args.names.read(&args.first)?, args.names.read(&args.second)?];
    let by = args.by.map(|by| match by {
        By::Update => Place::Update,
        By::Tokens => Place::Tokens,
    });
    let settings = Settings { by, tolerance: args.tolerance };
    let comparison = compare(&first, &second, &settings).into_diagnostic()?;
    let headline = comparison.leading().map(|(_, parting)| headline(parting, &known));
    output::print(&text(&first, &second, &comparison, headline.as_deref()))?;
    if let Some(path) = &args.json {
        let report = json!({ "agrees": comparison.agrees(), "headline": headline, "comparison": comparison });
        output::write_json(path, &report)?;
    }
    let exit = match (comparison.agrees(), comparison.is_of_the_training()) {
        (false, _) => Exit::Deviates,
        (true, true) => Exit::Conforms,
        (true, false) => Exit::Unchecked,
    };
    args.files.write(|| page::report([&first, &second], &comparison, headline, exit))?;
    Ok(exit)
}

fn text(first: &Log, second: &Log, comparison: &Comparison, headline: Option<&str>) -> String {
    let by = comparison.by;
    let mut text =
        format!("first   {} ({})\nsecond  {} ({})\n\n", first.name, first.format, second.name, second.format);
    match comparison.leading() {
        None if comparison.is_of_the_training() => {
            let _ = writeln!(
                text,
                "they agree where both have a number, lined up by {by}, within {:.1e} and what was lost in printing",
                comparison.tolerance
            );
        }
        None => text += "neither a loss nor a gradient could be compared\n",
        Some((_, parting)) => {
            let _ = writeln!(text, "{}", headline.unwrap_or_default());
            text += &parted(parting, comparison);
        }
    }
    for curve in &comparison.curves {
        if curve.parting.is_none() {
            text += &paragraph(&format!("agrees: {}, {}", covered(curve), curve.pairing), 2);
        }
    }
    for what in &comparison.uncompared {
        text += &paragraph(&format!("not compared: {what}"), 2);
    }
    for note in &comparison.notes {
        text += &paragraph(&format!("supposed: {note}"), 2);
    }
    if let Some((curve, _)) = comparison.leading() {
        text.push('\n');
        text += &plotted(curve, by);
    }
    text
}

/// The factor, and what it equals, where one factor explains every place or nearly does.
fn headline(parting: &Parting, known: &Known) -> String {
    let what = &parting.quantity;
    if let Some(pairing) = parting.agrees_where {
        return format!("{what}: the same numbers, but {pairing}");
    }
    let ratio = match (parting.factor, parting.ratio) {
        (Factor::Uniform(ratio), _) => Some(ratio),
        // Training carries a difference on; what it began with is near all of what came.
        (Factor::Varies { least, most }, Some(first))
            if is_about(least, &first) && is_about(most, &first) =>
        {
            Some(first)
        }
        (Factor::Varies { least, most }, _) => {
            return format!("{what}: from {least:.4} to {most:.4} times as large, no one factor");
        }
        _ => None,
    };
    match ratio {
        Some(ratio) if !is_one(&ratio) => format!("{what}: {}", known.said(&ratio)),
        _ => format!("{what}: {:?} and {:?}", parting.first, parting.second),
    }
}

/// Whether a factor is within a quarter of the one at the first place.
fn is_about(factor: f64, first: &Ratio) -> bool {
    (0.8..=1.25).contains(&(factor / first.value))
}

/// Whether a quotient is nothing that anything would be called by.
fn is_one(ratio: &Ratio) -> bool {
    (ratio.value - 1.0).abs() <= ratio.error
}

fn parted(parting: &Parting, comparison: &Comparison) -> String {
    let Parting { quantity, place, first, second, bound, differing, compared, .. } = parting;
    let by = comparison.by;
    let place = grouped(place);
    let mut text = paragraph(
        &format!(
            "they part at {by} {place}: {quantity} {first:?} in the first, {second:?} in the second, at most {bound:.1e} \
             apart"
        ),
        2,
    );
    let places = if *differing == 1 { "place" } else { "places" };
    let mut all =
        format!("in all, {} of {} places that both have differ", grouped(differing), grouped(compared));
    if *compared == 1 {
        all = format!("it is the one {places} that both have");
    }
    match parting.factor {
        Factor::Uniform(_) if *compared > 1 => all += ", by one factor",
        Factor::Varies { least, most } => {
            let _ = write!(all, ", by factors from {least:.4} to {most:.4}");
        }
        _ => {}
    }
    text += &paragraph(&all, 2);
    for curve in &comparison.curves {
        if let Some(other) = curve.parting.as_ref().filter(|other| other.quantity != *quantity) {
            text +=
                &paragraph(&format!("also parts: {} at {by} {}", other.quantity, grouped(other.place)), 2);
        }
    }
    text
}

/// Both curves of a quantity.
fn plotted(curve: &Curve, by: Place) -> String {
    let plot =
        Plot { axis: &by.to_string(), places: &curve.places, expected: &curve.first, actual: &curve.second };
    format!("  {} by {by}: · first, × second, ∗ both\n{plot}\n", curve.quantity)
}
