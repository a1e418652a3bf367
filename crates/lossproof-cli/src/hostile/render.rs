//! What came of the hostile trainers, as a person reads it, and as JSON.

use super::trial::{End, Trial};
use crate::{
    exit::Exit,
    report_files::{command_line, outcome},
    table::{Align, Table},
};
use lossproof_laws::Campaign;
use lossproof_report::{Check, CheckOutcome, Checks, Part, Report, Section};
use serde_json::{Value, json};
use std::fmt::Write;

/// Characters of what is said that the table shows.
const SHOWN: usize = 100;

pub(super) fn text(trials: &[Trial], campaign: &Campaign) -> String {
    let mut table = Table::new([
        ("hostile trainer", Align::Left),
        ("what it does", Align::Left),
        ("came out", Align::Left),
        ("what is said", Align::Left),
    ]);
    for trial in trials {
        table.row([
            trial.hostile.id.to_owned(),
            trial.hostile.what.to_owned(),
            format!("{} by {}", trial.end, trial.by),
            first_line(&trial.said),
        ]);
    }
    let mut text = format!("{} random cases per law, seed {}\n\n", campaign.cases, campaign.seed);
    text += &table.render();
    let deviating = trials.iter().filter_map(|trial| Some((trial, trial.deviation()?)));
    for (trial, deviation) in deviating.clone() {
        let _ = write!(text, "\n{}: {deviation}", trial.hostile.id);
    }
    let green = trials.iter().filter(|trial| trial.end == End::Green).count();
    let _ = write!(
        text,
        "\n{} hostile trainers: {green} came out green, {} are not what they must be\n",
        trials.len(),
        deviating.count()
    );
    text
}

fn first_line(said: &str) -> String {
    let line = said.lines().next().unwrap_or_default();
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// What came of each, as a report.
pub(super) fn report(trials: &[Trial], exit: Exit) -> Report {
    let check = |trial: &Trial| {
        let outcome = trial.deviation().map_or(CheckOutcome::Passed, CheckOutcome::Failed);
        Check::new(trial.hostile.id, trial.hostile.what, outcome)
            .with_details(format!("{} by {}\n{}", trial.end, trial.by, trial.said))
    };
    let green = trials.iter().filter(|trial| trial.end == End::Green).count();
    let checks = Checks { name: "hostile trainers".to_owned(), checks: trials.iter().map(check).collect() };
    Report {
        title: "Hostile trainers".to_owned(),
        command: command_line(),
        subject: vec!["trainers that try to come out green".to_owned()],
        outcome: outcome(exit),
        summary: format!("{green} of {} came out green.", trials.len()),
        sections: vec![Section::new("What came of each", vec![Part::Checks(checks)])],
    }
}

pub(super) fn json(trials: &[Trial], campaign: &Campaign) -> Value {
    let trial = |trial: &Trial| {
        json!({
            "id": trial.hostile.id,
            "what": trial.hostile.what,
            "must": trial.hostile.must.to_string(),
            "came_out": trial.end.to_string().to_lowercase(),
            "by": trial.by,
            "said": trial.said,
            "deviation": trial.deviation(),
        })
    };
    json!({
        "cases": campaign.cases,
        "seed": campaign.seed,
        "hostile": trials.iter().map(trial).collect::<Vec<_>>(),
    })
}
