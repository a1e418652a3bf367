//! `lossproof grads`: what is wrong with a dump of gradients, by itself.

use super::{
    cells::{COLUMNS, row},
    finding_words::said,
    page,
};
use crate::{exit::Exit, number::grouped, output, report_files::ReportFiles, table::Table, text::paragraph};
use lossproof_cases::read_bytes;
use lossproof_dumps::{Finding, Gradients, Inspection, LARGEST_DUMP, Sizes, State, inspect, parameter_names};
use miette::{IntoDiagnostic, WrapErr};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fmt::Write,
    path::{Path, PathBuf},
};

/// Say which parameters got no gradient, a zero one, NaN, or one out of line, from one dump.
///
/// Nothing is claimed and nothing else is needed: blocks of a model are alike, so each gradient is held to those of the
/// other blocks. Reads safetensors, and the debug state of llm.c. Ends with 0 when nothing is wrong, with 1 when
/// something is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof grads grads.safetensors --parameters model.safetensors\n  \
                        lossproof grads gpt2_124M_debug_state.bin")]
pub(crate) struct Args {
    /// The dump.
    #[arg(value_name = "FILE")]
    dump: PathBuf,
    /// The parameters that should have a gradient, as safetensors.
    #[arg(long, value_name = "FILE")]
    parameters: Option<PathBuf>,
    /// The model of llm.c that a debug state is of, where it is no GPT-2 of OpenAI's.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Also write the report as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    files: ReportFiles,
}

/// Looks at a dump and says on stdout what is wrong with it.
///
/// # Errors
/// When a file cannot be read or holds something else.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    output::check_writable(args.json.as_deref())?;
    args.files.check_writable()?;
    let sizes = args.model.as_deref().map(sizes).transpose()?;
    let gradients = Gradients::read(&args.dump, sizes.as_ref()).into_diagnostic()?;
    let parameters = args.parameters.as_deref().map(names).transpose()?;
    let inspection = inspect(&gradients, parameters.as_ref());
    output::print(&text(args, &gradients, &inspection))?;
    if let Some(path) = &args.json {
        output::write_json(path, &report(&inspection))?;
    }
    let exit = if inspection.states.is_empty() {
        Exit::Unchecked
    } else if inspection.is_wrong() {
        Exit::Deviates
    } else {
        Exit::Conforms
    };
    args.files.write(|| page::of_gradients(&args.dump, &inspection, exit))?;
    Ok(exit)
}

fn sizes(path: &Path) -> miette::Result<Sizes> {
    let bytes = read_bytes(path, LARGEST_DUMP).into_diagnostic()?;
    Sizes::of_model(&bytes).map_err(|problem| miette::miette!("{}: {problem}", path.display()))
}

fn names(path: &Path) -> miette::Result<BTreeSet<String>> {
    let bytes = read_bytes(path, LARGEST_DUMP).into_diagnostic()?;
    parameter_names(&bytes)
        .into_diagnostic()
        .wrap_err_with(|| format!("{} holds no parameters", path.display()))
}

fn text(args: &Args, gradients: &Gradients, inspection: &Inspection) -> String {
    let elements: usize = inspection.states.values().map(|state| state.elements).sum();
    let mut text = format!(
        "{}: {} gradients, {} values, norm {:.4e}\n",
        args.dump.display(),
        inspection.states.len(),
        grouped(elements),
        inspection.norm,
    );
    if let Some(loss) = gradients.loss {
        let _ = writeln!(text, "loss: {:?}", loss.value);
    }
    text += &table(inspection);
    for finding in &inspection.findings {
        let remark = if finding.is_certain() { "" } else { "to be looked at: " };
        text += &paragraph(&format!("{remark}{}", said(finding)), 2);
    }
    let apart = inspection.states.len() - inspection.with_siblings;
    if apart > 0 {
        let few = format!(
            "{apart} of {} gradients have too few siblings to be out of line with",
            inspection.states.len()
        );
        text += &paragraph(&few, 2);
    }
    if inspection.findings.is_empty() && !inspection.states.is_empty() {
        text += &paragraph("nothing is wrong with them by themselves", 2);
    }
    text
}

/// Every gradient that something is wrong with, or all of them where they are few.
fn table(inspection: &Inspection) -> String {
    const FEW: usize = 40;
    let mut table = Table::new(COLUMNS);
    let blamed: BTreeSet<&str> = inspection.findings.iter().flat_map(Finding::names).collect();
    for (name, state) in &inspection.states {
        if inspection.states.len() > FEW && !blamed.contains(name.as_str()) {
            continue;
        }
        table.row(row(name, state));
    }
    table.render()
}

fn report(inspection: &Inspection) -> Value {
    let state = |(name, state): (&String, &State)| {
        json!({
            "parameter": name,
            "elements": state.elements,
            "norm": state.norm,
            "zeros": state.zeros,
            "nans": state.nans,
            "infinities": state.infinities,
        })
    };
    let finding = |finding: &Finding| json!({ "kind": finding.kind(), "parameters": finding.names(), "said": said(finding) });
    json!({
        "norm": inspection.norm,
        "findings": inspection.findings.iter().map(finding).collect::<Vec<_>>(),
        "gradients": inspection.states.iter().map(state).collect::<Vec<_>>(),
    })
}
