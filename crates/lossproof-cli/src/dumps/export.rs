//! `lossproof export`: a model, batches, and what a trainer must make of them, for one that can only write files.

use crate::{exit::Exit, explain::Drawn, number::grouped, output, subjects, text::paragraph};
use lossproof_dumps::{Batches, Folder, Model, batches, export};
use lossproof_gpt2::Config;
use lossproof_spec::Dtype;
use lossproof_subject::{Device, probe_initial_of};
use miette::IntoDiagnostic;
use std::path::PathBuf;

/// Write a model, batches, and the losses and gradients that a trainer must make of them.
///
/// For a trainer that can load parameters and write its gradients, and nothing else: it answers by files in the same
/// folder, and `lossproof check` reads them. The folder has a page that says how.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof export --out cases\n  \
                        lossproof export --cases 4 --spec sequence-mean --ranks 2 --out cases")]
pub(crate) struct Args {
    /// The folder, which is not there yet or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Batches.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=999))]
    cases: u16,
    /// The loss that the trainer says it has.
    #[arg(long, value_name = "NAME", default_value = "token-mean")]
    spec: Drawn,
    /// The model: gpt2-pico or gpt2-nano.
    #[arg(long, value_name = "NAME", default_value = "gpt2-pico", value_parser = small)]
    config: Config,
    /// Ranks of every batch.
    #[arg(long, value_name = "R", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    ranks: u16,
    /// Micro-batches of a rank at most.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    micro_batches: u16,
    /// Fixes parameters, tokens and layouts.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// A model of which the gradient of every token fits into a file.
fn small(name: &str) -> Result<Config, String> {
    match name.parse() {
        Ok(config @ (Config::Pico | Config::Nano)) => Ok(config),
        _ => Err("the gradient of every token is written: take gpt2-pico or gpt2-nano".to_owned()),
    }
}

/// Writes the folder and says on stdout what is in it.
///
/// # Errors
/// When there are no such batches, or the folder cannot be written.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    let shape = args.config.shape();
    let claim = args.spec.spec();
    let asked = Batches {
        count: args.cases.into(),
        ranks: args.ranks.into(),
        micro_batches: args.micro_batches.into(),
        vocabulary: shape.vocabulary,
        positions: shape.positions,
        seed: args.seed,
    };
    let batches = batches(&asked, &claim).map_err(|problem| miette::miette!("{problem}"))?;
    let mut reference = subjects::ours(args.config, Dtype::F64, Device::Cpu)?;
    let parameters = probe_initial_of(&reference.parameters(), args.seed);
    let model = Model {
        name: args.config.to_string(),
        vocabulary: shape.vocabulary,
        positions: shape.positions,
        width: shape.width,
        heads: shape.heads,
        layers: shape.layers,
    };
    let folder = Folder::new(&args.out);
    let exported =
        export(&mut *reference, model, &parameters, &claim, &batches, &folder).into_diagnostic()?;
    let out = args.out.display();
    let text = format!(
        "{} batches for {} under the {claim} are in {out}: {} bytes. Its README.md says how a trainer answers; then \
         `lossproof check {out}` says what it was.",
        exported.cases,
        args.config,
        grouped(exported.bytes),
    );
    output::print(&paragraph(&text, 0))?;
    Ok(Exit::Conforms)
}
