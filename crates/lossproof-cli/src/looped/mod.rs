//! `lossproof loop`: what a training loop means by its words, under both semantics, measured on small runs.

mod division;
mod epochs;
mod evaluation;
mod place;
mod question;
mod rates;
mod report;
mod section;
mod stage;
mod window;

use crate::{exit::Exit, output};

/// Say who divides by what and when backward happens, and in what the loop of a widespread script is another.
///
/// Small models are trained on a small part of the shipped text (libtorch, double precision), once under what the
/// clauses ask for and once under what Hugging Face's `run_clm_no_trainer.py` does with accelerate. Every number in the
/// table is of these runs: what a loss was divided by is read off the parameters before and after an update, what a
/// sample weighs in an evaluation off its result. Ends with 0 when the measured divisors are those of the rule, and
/// with 1 otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof loop\n  lossproof loop --only question")]
pub(crate) struct Args {
    /// Print only this part of the answer.
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Part>,
}

/// A part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Who divides by what, and when does backward happen?
    Question,
    /// In what the script's loop is another.
    Differences,
}

/// Runs, measures, and reports on stdout.
///
/// # Errors
/// When the trainer fails.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    let mut text = String::new();
    let mut holds = true;
    if args.only != Some(Part::Differences) {
        let answer = question::answer()?;
        holds = answer.holds;
        text += &answer.text;
    }
    if args.only != Some(Part::Question) {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &report::differences()?;
    }
    output::print(&text)?;
    Ok(if holds { Exit::Conforms } else { Exit::Deviates })
}
