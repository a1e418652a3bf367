//! `lossproof explain`: what the losses of a batch become under every reduction, without running a model.

mod answer;
mod batch;
mod semantics;

use crate::{exit::Exit, output};
use batch::{Batch, UsageError};

/// Explain how many losses a batch has, and what the gradient is the gradient of.
///
/// Without running a model: how many predictions there are, what a token weighs under each reduction (sum, means, and
/// the known mistakes of gradient accumulation and data parallelism), how any two of them compare, and which are the
/// same for this batch.
#[derive(Debug, Default, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  lossproof explain --sequences 8192 --length 64\n  \
                  lossproof explain --lengths 12,7,7,3 --ranks 2 --micro-batches 2"
)]
pub(crate) struct Args {
    /// Sequences that one optimizer step sees, over all ranks and micro-batches.
    #[arg(long, value_name = "N")]
    sequences: Option<usize>,
    /// Tokens in each sequence.
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    /// Tokens in each sequence when they differ, instead of --sequences and --length.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    lengths: Vec<usize>,
    /// Micro-batches that each rank accumulates before it steps.
    #[arg(long, value_name = "K", default_value_t = 1)]
    micro_batches: usize,
    /// Ranks: processes that train the same model together, each on its own sequences.
    #[arg(long, value_name = "R", default_value_t = 1)]
    ranks: usize,
}

/// Prints the explanation.
///
/// # Errors
/// When the arguments describe no batch.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    output::print(&explain(args)?)?;
    Ok(Exit::Conforms)
}

fn explain(args: &Args) -> Result<String, UsageError> {
    Ok(answer::answer(&Batch::new(args)?))
}
