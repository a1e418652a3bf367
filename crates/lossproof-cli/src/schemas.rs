//! `lossproof schemas`: what the lines of the adapters' protocol look like.

use crate::{exit::Exit, output};
use lossproof_process::schemas;
use std::path::PathBuf;

/// Write the JSON schemas of the protocol that adapters speak, which docs/adapters.md describes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write them into this folder: question.json and answer.json.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// Writes the schemas.
///
/// # Errors
/// When one cannot be written.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    for (name, schema) in schemas() {
        output::write_json(&args.out.join(name), &schema)?;
    }
    Ok(Exit::Conforms)
}
