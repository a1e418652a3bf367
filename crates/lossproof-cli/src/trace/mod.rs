//! `lossproof trace`: logs of training runs, compared and drawn.

mod diff;
mod equals;
mod page;
mod plot;

use crate::exit::Exit;
use clap::Subcommand;
use lossproof_logs::{Log, Names, Reading, read};
use miette::IntoDiagnostic;
use std::path::Path;

/// Compare and draw logs of training runs.
///
/// Read are lossproof's traces, the state file of transformers' Trainer, llm.c's main.log, and lines of JSON.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Diff(diff::Args),
    Plot(plot::Args),
}

/// Does what is asked.
///
/// # Errors
/// When a log cannot be read.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    match &args.task {
        Task::Diff(args) => diff::run(args),
        Task::Plot(args) => plot::run(args),
    }
}

/// What columns are whose names are not widely used.
#[derive(Debug, clap::Args)]
struct NameArgs {
    /// What a column is whose name is not widely used: `--name "my/loss=loss"`; more than once.
    #[arg(long = "name", value_name = "NAME=QUANTITY", value_parser = named)]
    names: Vec<(String, Reading)>,
}

fn named(text: &str) -> Result<(String, Reading), String> {
    // The name of a column may have an equals sign in it, a quantity has none.
    let (name, quantity) =
        text.rsplit_once('=').ok_or_else(|| "write NAME=QUANTITY, for example my/loss=loss".to_owned())?;
    Ok((name.to_owned(), quantity.parse()?))
}

impl NameArgs {
    fn read(&self, path: &Path) -> miette::Result<Log> {
        read(path, &Names::with(self.names.clone())).into_diagnostic()
    }
}
