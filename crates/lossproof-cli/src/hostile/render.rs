//! What came of the hostile trainers, as a person reads it, and as JSON.

use super::trial::{End, Trial};
use crate::table::{Align, Table};
use lossproof_laws::Campaign;
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
