//! What two loops have in common without any rounding: samples, windows, groups, and where a resume goes on.

use super::{file::Recording, quantities::Followed, replay::RecordedSampler, row::Row};
use crate::{Cut, Sampler, Settings};
use std::collections::BTreeSet;

/// What has no rounding: which samples, which windows, which groups.
pub(super) fn structure(
    recording: &Recording,
    ours: &Followed,
    settings: &Settings,
    sampler: RecordedSampler<'_>,
) -> Vec<Row> {
    let json = &recording.json;
    let exact = |quantity, numbers, differing: usize, place: String| Row {
        quantity,
        numbers,
        worst: differing as f64,
        place,
        bound: 0.0,
    };
    let mut rows = Vec::new();

    let cut = Cut { batch: settings.batch, ranks: settings.ranks, shards: settings.semantics.shards };
    let (mut batches, mut otherwise, mut place) = (0, 0, String::new());
    for epoch in json.epochs.iter().map(|epoch| epoch.epoch) {
        let recorded = sampler.epoch(epoch);
        if recorded.iter().any(Vec::is_empty) {
            continue;
        }
        let mut seen = BTreeSet::new();
        let order = recorded.iter().flatten().flatten().map(|sample| sample.index);
        let order: Vec<usize> = order.filter(|&index| seen.insert(index)).collect();
        let own = cut.micro_batches(&order);
        batches += own.len();
        let differing =
            (0..own.len().max(recorded.len())).filter(|&at| own.get(at) != recorded.get(at)).count();
        if differing > 0 {
            otherwise += differing;
            place = format!("epoch {epoch}");
        }
    }
    if batches > 0 {
        rows.push(exact("micro-batches and fill-ups", batches, otherwise, place));
    }

    let of_recording = json.updates.iter().map(|update| (update.update, update.epoch, update.micro_batches));
    let of_ours = ours.updates.iter().map(|update| (update.update, update.epoch, update.losses.len()));
    let differing = of_recording.clone().zip(of_ours).filter(|(recorded, own)| recorded != own).count()
        + json.updates.len().abs_diff(ours.updates.len());
    rows.push(exact("updates and their windows", json.updates.len(), differing, String::new()));

    let recorded: BTreeSet<String> = json.undecayed.iter().cloned().collect();
    let differing = recorded.symmetric_difference(&ours.undecayed).count();
    rows.push(exact("parameters without decay", recorded.len(), differing, String::new()));

    if let Some(resumed) = &json.resumed {
        let differing = usize::from(ours.start != (resumed.starting_epoch, resumed.skipped));
        let place = format!("epoch {}, micro-batch {}", ours.start.0, ours.start.1);
        rows.push(exact("where a resume goes on", 1, differing, place));
    }
    rows
}
