//! `lossproof trace plot`: the numbers of a log by update or tokens, in plain text.

use super::NameArgs;
use crate::{exit::Exit, output};
use lossproof_logs::{Log, Place, Quantity, Reading};
use lossproof_trace::Plot;
use std::path::PathBuf;

/// Draw what a log has of a quantity.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lossproof trace plot main.log\n  lossproof trace plot trainer_state.json --quantity grad-norm"
)]
pub(crate) struct Args {
    /// The log.
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// Only this quantity: loss, grad-norm, learning-rate, clip-factor, validation-loss or perplexity; more than once.
    #[arg(long, value_name = "NAME", value_parser = quantity)]
    quantity: Vec<Quantity>,
    #[command(flatten)]
    names: NameArgs,
}

fn quantity(name: &str) -> Result<Quantity, String> {
    match name.parse()? {
        Reading::Quantity(quantity) => Ok(quantity),
        _ => Err(format!("{name} is what quantities are drawn by: name a quantity, for example loss")),
    }
}

/// Draws a log on stdout.
///
/// # Errors
/// When it cannot be read, or has none of what is asked for.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    let log = args.names.read(&args.log)?;
    let mut text = format!("{} ({})\n", log.name, log.format);
    let asked = |quantity: &Quantity| match quantity {
        // One for each parameter, and what nobody knows: drawn only when asked for.
        Quantity::TensorNorm(_) | Quantity::Other(_) if args.quantity.is_empty() => false,
        quantity => args.quantity.is_empty() || args.quantity.contains(quantity),
    };
    let mut drawn = 0;
    for quantity in log.quantities().iter().filter(|quantity| asked(quantity)) {
        text += &plotted(&log, quantity);
        drawn += 1;
    }
    if drawn == 0 {
        let known: Vec<_> = log.quantities().iter().map(ToString::to_string).collect();
        return Err(miette::miette!(
            help = format!("it has: {}", known.join(", ")),
            "{} has nothing of what is asked for",
            log.name
        ));
    }
    output::print(&text)?;
    Ok(Exit::Conforms)
}

fn plotted(log: &Log, quantity: &Quantity) -> String {
    let by = if log.rows.iter().any(|row| row.update.is_some()) { Place::Update } else { Place::Tokens };
    let (series, _) = log.series(quantity, by);
    let (places, values): (Vec<u64>, Vec<f64>) = series.into_iter().unzip();
    let plot = Plot { axis: &by.to_string(), places: &places, expected: &values, actual: &[] };
    format!("\n  {quantity} by {by}\n{plot}\n")
}
