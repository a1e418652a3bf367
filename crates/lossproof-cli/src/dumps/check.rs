//! `lossproof check`: what a trainer made of an export, held to what it must be.

use super::{
    answers::{first_other, remarks, said, verdict},
    page,
};
use crate::{
    exit::Exit,
    output,
    report_files::ReportFiles,
    table::{Align, Table},
    text::paragraph,
    tomography::render as scans,
};
use lossproof_diagnosis::tomography::Agreement;
use lossproof_dumps::{CheckedCase, CheckedLoss, Folder, Manifest, Outcome, check};
use lossproof_spec::Dtype;
use miette::IntoDiagnostic;
use serde_json::json;
use std::{fmt::Write, path::PathBuf};

/// Hold the losses and gradients that a trainer left in an exported folder to what they must be.
///
/// Where a gradient is another one, what each token weighs in it is recovered, and which semantics has these weights is
/// said. Ends with 0 when all answers agree, with 1 when one does not, with 3 when one is missing or undecided.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lossproof check cases\n  lossproof check cases --dtype bf16 --json report.json"
)]
pub(crate) struct Args {
    /// A folder that `lossproof export` has written.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What the trainer computed in, where that is coarser than what it wrote.
    #[arg(long, value_name = "DTYPE", value_parser = dtype)]
    dtype: Option<Dtype>,
    /// Also write the report as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    files: ReportFiles,
}

/// An element type by its name.
fn dtype(name: &str) -> Result<Dtype, String> {
    let named = serde_json::from_value(json!(name));
    named.map_err(|_| format!("there is no dtype {name}: it is one of f64, f32, bf16, f16"))
}

/// Checks the answers and reports them on stdout.
///
/// # Errors
/// When the export or its place cannot be read, or the report not be written.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    output::check_writable(args.json.as_deref())?;
    args.files.check_writable()?;
    let (manifest, cases) = check(&Folder::new(&args.folder), args.dtype).into_diagnostic()?;
    output::print(&text(&manifest, &cases))?;
    if let Some(path) = &args.json {
        output::write_json(path, &report(&manifest, &cases))?;
    }
    let exit = exit(&cases);
    args.files.write(|| page::of_answers(&manifest, &cases, exit))?;
    Ok(exit)
}

fn exit(cases: &[CheckedCase]) -> Exit {
    let has = |agreement| cases.iter().any(|case| case.agreement() == agreement);
    if has(Agreement::Disagrees) {
        Exit::Deviates
    } else if cases.is_empty() || has(Agreement::Undecided) {
        Exit::Unchecked
    } else {
        Exit::Conforms
    }
}

fn text(manifest: &Manifest, cases: &[CheckedCase]) -> String {
    let mut text = paragraph(&format!("{} under the {}", manifest.model.name, manifest.claim), 0);
    let mut table = Table::new([
        ("case", Align::Left),
        ("loss", Align::Right),
        ("expected", Align::Right),
        ("furthest gradient", Align::Left),
        ("off by", Align::Right),
        ("", Align::Left),
    ]);
    for case in cases {
        table.row(row(case));
    }
    text += &table.render();
    for case in cases {
        text += &remarks(case);
    }
    if let Some((case, scan)) = first_other(cases) {
        let _ = writeln!(text, "\nWhat every prediction of case {} weighs", case.name);
        text += &scans::table(&case.batch, &manifest.claim, scan);
        text += &scans::gradient(scan);
    }
    let _ = writeln!(text, "\n{}", verdict(cases));
    text
}

fn row(case: &CheckedCase) -> Vec<String> {
    let verdict = said(case.agreement());
    match &case.outcome {
        Outcome::Missing => {
            let nothing = String::new;
            vec![case.name.clone(), nothing(), nothing(), nothing(), nothing(), "no answer".to_owned()]
        }
        Outcome::Unreadable(_) => {
            let nothing = String::new;
            vec![case.name.clone(), nothing(), nothing(), nothing(), nothing(), "unreadable".to_owned()]
        }
        Outcome::Checked { loss, worst, .. } => {
            let (found, expected) = match loss {
                Some(CheckedLoss { found, expected, .. }) => {
                    (format!("{found:.6}"), format!("{expected:.6}"))
                }
                None => ("none".to_owned(), String::new()),
            };
            let (name, error) = match worst {
                Some((name, error)) => (name.clone(), format!("{error:.1e}")),
                None => (String::new(), String::new()),
            };
            vec![case.name.clone(), found, expected, name, error, verdict.to_owned()]
        }
    }
}

fn report(manifest: &Manifest, cases: &[CheckedCase]) -> serde_json::Value {
    let case = |case: &CheckedCase| {
        let mut value = json!({ "case": case.name, "verdict": said(case.agreement()) });
        match &case.outcome {
            Outcome::Missing => value["answer"] = json!("none"),
            Outcome::Unreadable(error) => value["answer"] = json!(error.to_string()),
            Outcome::Checked { answer, loss, worst, scan } => {
                value["missing"] = json!(answer.missing);
                value["loss"] = json!(loss.as_ref().map(|loss| json!({
                    "found": loss.found,
                    "expected": loss.expected,
                    "bound": loss.bound,
                    "equals": loss.explained,
                })));
                value["furthest"] =
                    json!(worst.as_ref().map(|(name, error)| json!({ "parameter": name, "error": error })));
                value["found"] = match &**scan {
                    Ok(scan) => json!(scan.gradient.as_ref().ok().and_then(|reading| {
                        reading.comparison.as_ref().and_then(|comparison| comparison.found.clone())
                    })),
                    Err(why) => json!(why),
                };
            }
        }
        value
    };
    json!({
        "model": manifest.model.name,
        "claim": manifest.claim.to_string(),
        "cases": cases.iter().map(case).collect::<Vec<_>>(),
    })
}
