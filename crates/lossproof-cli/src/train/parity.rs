//! `lossproof train --recording`: both trainers under our loop, and Hugging Face's, number by number.

use super::args::{Args, TrainerName};
use crate::{
    exit::Exit,
    number::grouped,
    output,
    source_text::SourceText,
    subjects,
    table::{Align, Table},
};
use lossproof_gpt2::Config;
use lossproof_loop::recording::{Comparison, Recording, compare};
use lossproof_spec::Dtype;
use lossproof_subject::LoopTrainer;
use miette::{IntoDiagnostic, WrapErr};
use std::{fmt::Write, path::Path};

/// Compares and reports on stdout.
///
/// # Errors
/// When the recording cannot be used, or a trainer fails.
pub(super) fn run(args: &Args, folder: &Path) -> miette::Result<Exit> {
    let recording = Recording::read(folder).into_diagnostic().wrap_err("the recording cannot be read")?;
    let text = SourceText::read(args.text.as_deref())?;
    let config: Config = recording.config().parse().into_diagnostic()?;
    let mut report = format!("{}: {}\n", folder.display(), recording.how());
    let mut holds = true;
    for name in [TrainerName::Reference, TrainerName::Libtorch] {
        let mut trainer = trainer(name, config)?;
        let comparison = compare(&mut *trainer, &recording, text.bytes()).into_diagnostic()?;
        holds &= comparison.holds();
        report += &render(&trainer.info().name, &comparison);
    }
    report += if holds {
        "\nevery quantity is within its bound\n"
    } else {
        "\nnot every quantity is within its bound\n"
    };
    output::print(&report)?;
    Ok(if holds { Exit::Conforms } else { Exit::Deviates })
}

/// A trainer in f64 under the loop; the recording has its parameters.
fn trainer(name: TrainerName, config: Config) -> miette::Result<Box<dyn LoopTrainer>> {
    super::trainer_at(name, config, Dtype::F64, subjects::initial(config, 0))
}

fn render(trainer: &str, comparison: &Comparison) -> String {
    let mut text = format!("\n{trainer}, {:.1e} apart between two orders of summation:\n", comparison.spread);
    let columns = [
        ("quantity", Align::Left),
        ("numbers", Align::Right),
        ("worst", Align::Right),
        ("bound", Align::Right),
        ("", Align::Left),
        ("where", Align::Left),
    ];
    let mut table = Table::new(columns);
    for row in &comparison.rows {
        let verdict = if row.holds() { "ok" } else { "DIFFERS" };
        let small = |value: f64| if value > 0.0 { format!("{value:.1e}") } else { "0".to_owned() };
        let place = if row.worst > 0.0 { row.place.as_str() } else { "" };
        table.row([
            row.quantity,
            &grouped(row.numbers),
            &small(row.worst),
            &small(row.bound),
            verdict,
            place,
        ]);
    }
    write!(text, "{}", table.render()).expect("invariant: a string takes everything");
    text
}
