//! The `lossproof` command.

mod adapter;
mod colour;
mod diagnose;
mod dumps;
mod exit;
mod explain;
#[cfg(feature = "trainers")]
mod faults;
#[cfg(feature = "trainers")]
mod hostile;
mod laws;
#[cfg(feature = "trainers")]
mod looped;
mod number;
mod output;
mod picture;
mod progress;
#[cfg(feature = "trainers")]
mod ranks;
mod report_files;
#[cfg(feature = "trainers")]
mod schemas;
#[cfg(feature = "trainers")]
mod serve;
mod smoke;
#[cfg(feature = "trainers")]
mod source_text;
#[cfg(feature = "trainers")]
mod subjects;
mod table;
mod text;
mod tomography;
mod trace;
#[cfg(feature = "trainers")]
mod train;
mod trainer;
#[cfg(feature = "trainers")]
mod verify;

use clap::{Parser, Subcommand};
use exit::Exit;
use lossproof_subject::Watchdog;
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
    Check(dumps::check::Args),
    Diagnose(diagnose::Args),
    Explain(explain::Args),
    #[cfg(feature = "trainers")]
    Export(dumps::export::Args),
    #[cfg(feature = "trainers")]
    Faults(faults::Args),
    Grads(dumps::grads::Args),
    #[cfg(feature = "trainers")]
    Hostile(hostile::Args),
    Laws(laws::Args),
    #[cfg(feature = "trainers")]
    Loop(looped::Args),
    #[cfg(feature = "trainers")]
    Schemas(schemas::Args),
    #[cfg(feature = "trainers")]
    Serve(serve::Args),
    Smoke(smoke::Args),
    Tomography(tomography::Args),
    Trace(trace::Args),
    #[cfg(feature = "trainers")]
    Train(train::Args),
    #[cfg(feature = "trainers")]
    Verify(verify::Args),
}

fn main() -> ExitCode {
    exit::announce_panics();
    let command = Cli::parse().command;
    exit::of(|| run(command)).into()
}

fn run(command: Command) -> miette::Result<Exit> {
    check_time_limit()?;
    match command {
        Command::Check(args) => dumps::check::run(&args),
        Command::Diagnose(args) => diagnose::run(&args),
        Command::Explain(args) => explain::run(&args),
        #[cfg(feature = "trainers")]
        Command::Export(args) => dumps::export::run(&args),
        #[cfg(feature = "trainers")]
        Command::Faults(args) => faults::run(&args),
        Command::Grads(args) => dumps::grads::run(&args),
        #[cfg(feature = "trainers")]
        Command::Hostile(args) => hostile::run(&args),
        Command::Laws(args) => laws::run(&args),
        #[cfg(feature = "trainers")]
        Command::Loop(args) => looped::run(&args),
        #[cfg(feature = "trainers")]
        Command::Schemas(args) => schemas::run(&args),
        #[cfg(feature = "trainers")]
        Command::Serve(args) => serve::run(&args),
        Command::Smoke(args) => smoke::run(&args),
        Command::Tomography(args) => tomography::run(&args),
        Command::Trace(args) => trace::run(&args),
        #[cfg(feature = "trainers")]
        Command::Train(args) => train::run(&args),
        #[cfg(feature = "trainers")]
        Command::Verify(args) => verify::run(&args),
    }
}

/// Refuses a `LOSSPROOF_TIMEOUT` that sets no time, before a subject is asked anything.
///
/// # Errors
/// When the variable holds no number of seconds above zero.
fn check_time_limit() -> miette::Result<()> {
    match Watchdog::time_limit() {
        Ok(_) => Ok(()),
        Err(message) => Err(miette::miette!("{message}")),
    }
}
