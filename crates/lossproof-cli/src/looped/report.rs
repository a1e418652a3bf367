//! The table of what the script's loop does otherwise.

use super::{
    division::{divisors, losses},
    epochs, evaluation, place, rates,
    section::{BLOCK, MODEL, Section},
    stage::{BOTH, FirstBlocks, settings},
    window::{self, Window},
};
use crate::table::{Align, Table};
use lossproof_loop::{Corpus, Plan};

/// Blocks to train on, which make a last window of two micro-batches, the last of them of one block.
const TRAINING: usize = 52;
/// Blocks to validate with, one more than two batches.
const VALIDATION: usize = 17;

/// Runs both and compares.
///
/// # Errors
/// When the trainer fails.
pub(super) fn differences() -> miette::Result<String> {
    let corpus = FirstBlocks::new(MODEL, BLOCK, TRAINING, VALIDATION)?;
    let sections = [
        windows(&corpus)?,
        rates::section(&corpus)?,
        epochs::samples(&corpus)?,
        epochs::tracked(&corpus)?,
        epochs::whole(&corpus)?,
        evaluation::weights(&corpus)?,
        evaluation::losses(&corpus)?,
        place::resumed()?,
        place::decayed()?,
        place::left_out()?,
    ];
    let declared = settings(BOTH[0], BLOCK);
    Ok(format!(
        "What does the script's loop do otherwise?\n  {} on libtorch in double precision; {} blocks of {} tokens to train \
         on and {} to\n  validate with, {} blocks a micro-batch, {} micro-batches an update, unless said otherwise.\n\n{}",
        MODEL.name(),
        corpus.training_samples(),
        BLOCK,
        corpus.validation_samples(),
        declared.batch,
        declared.accumulate,
        table(&sections),
    ))
}

/// The rows of all sections in columns of one width, under their headings.
fn table(sections: &[Section]) -> String {
    let heads = ["", "lawful", "run_clm_no_trainer"];
    let mut table = Table::new(heads.map(|head| (head, Align::Left)));
    for row in sections.iter().flat_map(|section| &section.rows) {
        table.row(row.clone());
    }
    let rendered = table.render();
    let mut lines = rendered.split_inclusive('\n');
    let mut text = String::new();
    text.extend(lines.by_ref().take(1));
    for section in sections {
        text.extend(["\n", &section.heading, "\n"]);
        text.extend(lines.by_ref().take(section.rows.len()));
    }
    text
}

/// What the losses of a full and of the last window are divided by, and what that makes of the gradient.
fn windows(corpus: &FirstBlocks) -> miette::Result<Section> {
    let mut section =
        Section::new("the window of an update: what a loss is divided by, at the same parameters");
    let [lawful, script] = BOTH.map(|semantics| settings(semantics, BLOCK));
    let micro_batches = Plan::new(corpus.training_samples(), &lawful).micro_batches;
    let last = (micro_batches - 1) / lawful.accumulate * lawful.accumulate;
    let mut norms = Vec::new();
    for (name, start) in [("the first", 0), ("the last", last)] {
        let [lawful, script]: [Window; 2] = [
            window::measure(MODEL, corpus, &lawful, start)?,
            window::measure(MODEL, corpus, &script, start)?,
        ];
        let divided = [&lawful, &script].map(|window| divisors(&window.passes));
        section.row(format!("{name}, with micro-batches of {} losses", losses(&lawful.passes)), divided);
        norms.push((name, [lawful.grad_norm, script.grad_norm]));
    }
    for (name, norms) in norms {
        section.row(format!("norm of the gradient of {name}"), norms.map(|norm| format!("{norm:.6}")));
    }
    Ok(section)
}
