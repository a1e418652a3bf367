//! The learning rates of whole runs.

use super::{
    section::{BLOCK, MODEL, Section},
    stage::{self, BOTH, FirstBlocks, settings},
};
use crate::number::grouped;
use lossproof_loop::{Event, Settings};

/// The rates of the first and the last update on one rank and on several, and how many updates have none.
pub(super) fn section(corpus: &FirstBlocks) -> miette::Result<Section> {
    let declared = settings(BOTH[0], BLOCK);
    let mut section = Section::new(format!(
        "learning rates, base {}, linear to zero, {} updates of warm-up, 3 epochs",
        declared.learning_rate, declared.warm_up
    ));
    for ranks in [1, 2, 4] {
        let [lawful, script] = BOTH.map(|semantics| Settings { ranks, ..settings(semantics, BLOCK) });
        let rates = [rates(corpus, &lawful)?, rates(corpus, &script)?];
        let name = if ranks == 1 { "1 rank".to_owned() } else { format!("{ranks} ranks") };
        let updates = rates[0].len();
        let first = rates.each_ref().map(|rates| rate(rates.first()));
        section.row(format!("{name}: the first of {updates} updates"), first);
        section.row(format!("{name}: the last"), rates.each_ref().map(|rates| rate(rates.last())));
        let standing =
            rates.each_ref().map(|rates| grouped(rates.iter().filter(|rate| **rate == 0.0).count()));
        section.row(format!("{name}: updates of rate 0"), standing);
    }
    Ok(section)
}

/// The rates of all updates of a run.
fn rates(corpus: &FirstBlocks, settings: &Settings) -> miette::Result<Vec<f64>> {
    let mut rates = Vec::new();
    for event in stage::run(MODEL, corpus, settings)? {
        if let Event::Update(update) = event {
            rates.push(update.learning_rate);
        }
    }
    Ok(rates)
}

/// A rate in print.
fn rate(rate: Option<&f64>) -> String {
    match rate {
        None => "none".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) => format!("{rate:.6}"),
    }
}
