//! The `lossproof` command.

mod exit;
mod explain;
#[cfg(all(feature = "reference", feature = "torch"))]
mod faults;
#[cfg(all(feature = "reference", feature = "torch"))]
mod hostile;
#[cfg(all(feature = "reference", feature = "torch"))]
mod laws;
#[cfg(all(feature = "reference", feature = "torch"))]
mod looped;
mod number;
mod output;
mod picture;
#[cfg(all(feature = "reference", feature = "torch"))]
mod source_text;
#[cfg(all(feature = "reference", feature = "torch"))]
mod subjects;
mod table;
mod text;
#[cfg(all(feature = "reference", feature = "torch"))]
mod tomography;
#[cfg(all(feature = "reference", feature = "torch"))]
mod train;
#[cfg(all(feature = "reference", feature = "torch"))]
mod verify;

use clap::{Parser, Subcommand};
use exit::Exit;
use std::process::ExitCode;

/// States what a training loss is, exactly, and verifies that a trainer computes it.
#[derive(Debug, Parser)]
#[command(name = "lossproof", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Explain(explain::Args),
    #[cfg(all(feature = "reference", feature = "torch"))]
    Faults(faults::Args),
    #[cfg(all(feature = "reference", feature = "torch"))]
    Hostile(hostile::Args),
    #[cfg(all(feature = "reference", feature = "torch"))]
    Laws(laws::Args),
    #[cfg(all(feature = "reference", feature = "torch"))]
    Loop(looped::Args),
    #[cfg(all(feature = "reference", feature = "torch"))]
    Tomography(tomography::Args),
    #[cfg(all(feature = "reference", feature = "torch"))]
    Train(train::Args),
    #[cfg(all(feature = "reference", feature = "torch"))]
    Verify(verify::Args),
}

fn main() -> ExitCode {
    exit::announce_panics();
    let command = Cli::parse().command;
    exit::of(|| run(command)).into()
}

fn run(command: Command) -> miette::Result<Exit> {
    #[cfg(all(feature = "reference", feature = "torch"))]
    subjects::check_time_limit()?;
    match command {
        Command::Explain(args) => explain::run(&args),
        #[cfg(all(feature = "reference", feature = "torch"))]
        Command::Faults(args) => faults::run(&args),
        #[cfg(all(feature = "reference", feature = "torch"))]
        Command::Hostile(args) => hostile::run(&args),
        #[cfg(all(feature = "reference", feature = "torch"))]
        Command::Laws(args) => laws::run(&args),
        #[cfg(all(feature = "reference", feature = "torch"))]
        Command::Loop(args) => looped::run(&args),
        #[cfg(all(feature = "reference", feature = "torch"))]
        Command::Tomography(args) => tomography::run(&args),
        #[cfg(all(feature = "reference", feature = "torch"))]
        Command::Train(args) => train::run(&args),
        #[cfg(all(feature = "reference", feature = "torch"))]
        Command::Verify(args) => verify::run(&args),
    }
}
