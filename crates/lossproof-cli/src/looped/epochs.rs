//! What an epoch is, and what is logged as its loss.

use super::{
    section::{BLOCK, MODEL, Section},
    stage::{self, BOTH, FirstBlocks, settings},
};
use crate::number::grouped;
use lossproof_loop::{Corpus, Epoch, Event, Length, Semantics, Settings, semantics::Tracking};

/// How often the samples of an epoch are met on two ranks.
pub(super) fn samples(corpus: &FirstBlocks) -> miette::Result<Section> {
    let mut section = Section::new(format!("an epoch of {} blocks on 2 ranks", corpus.training_samples()));
    let mut met = Vec::new();
    for semantics in BOTH {
        let settings = Settings { ranks: 2, length: Length::Epochs(1), ..settings(semantics, BLOCK) };
        let mut times = vec![0_usize; corpus.training_samples()];
        for event in stage::run(MODEL, corpus, &settings)? {
            let Event::Update(update) = event else { continue };
            for &sample in update.micro_batches.iter().flat_map(|micro_batch| &micro_batch.samples).flatten()
            {
                times[sample] += 1;
            }
        }
        met.push(times);
    }
    let counted =
        |times: &Vec<usize>, wanted: usize| grouped(times.iter().filter(|met| **met == wanted).count());
    section.row("blocks that are trained on once", [counted(&met[0], 1), counted(&met[1], 1)]);
    section.row("blocks that are trained on twice", [counted(&met[0], 2), counted(&met[1], 2)]);
    Ok(section)
}

/// What is logged as the loss of an epoch. The runs are the same, with one and the same trajectory, but for what they
/// log.
pub(super) fn tracked(corpus: &FirstBlocks) -> miette::Result<Section> {
    let mut section = Section::new("the logged loss of the first epoch, of one and the same run");
    let since = Tracking::SamplesOfFirstRank;
    let before = Tracking::MeansOverWholeEpoch;
    let updates = Length::Updates(2);
    let whole = Length::Epochs(1);
    for (what, tracking, ranks, length) in [
        ("1 rank", since, 1, whole),
        ("1 rank, before #41904", before, 1, whole),
        ("2 ranks", since, 2, whole),
        ("1 rank, ended after 2 updates", since, 1, updates),
        ("1 rank, ended after 2 updates, before #41904", before, 1, updates),
    ] {
        let lawful = Settings { ranks, length, ..settings(Semantics::LAWFUL, BLOCK) };
        let script = Settings { semantics: Semantics { tracking, ..Semantics::LAWFUL }, ..lawful };
        let logged = [logged(corpus, &lawful)?, logged(corpus, &script)?];
        section.row(what, logged.map(|loss| format!("{loss:.6}")));
    }
    Ok(section)
}

/// What is reported at the end of whole runs, each under all of its semantics.
pub(super) fn whole(corpus: &FirstBlocks) -> miette::Result<Section> {
    let mut section = Section::new("a whole run of 3 epochs: what is reported at its end");
    for ranks in [1, 2] {
        let mut ends = Vec::new();
        for semantics in BOTH {
            let settings = Settings { ranks, ..settings(semantics, BLOCK) };
            ends.push(end(corpus, &settings)?);
        }
        let on = if ranks == 1 { "1 rank".to_owned() } else { format!("{ranks} ranks") };
        let [lawful, script] = [ends[0], ends[1]];
        let training = [lawful, script].map(|end| format!("{:.6}", end.training_loss));
        section.row(format!("{on}: logged loss of the last epoch"), training);
        let evaluation = [lawful, script].map(|end| format!("{:.6}", end.validation.loss));
        section.row(format!("{on}: evaluation loss"), evaluation);
    }
    Ok(section)
}

/// The last epoch's end.
fn end(corpus: &FirstBlocks, settings: &Settings) -> miette::Result<Epoch> {
    for event in stage::run(MODEL, corpus, settings)?.into_iter().rev() {
        if let Event::Epoch(epoch) = event {
            return Ok(epoch);
        }
    }
    miette::bail!("the run had no end of an epoch")
}

/// The loss that is logged at the end of the first epoch.
fn logged(corpus: &FirstBlocks, settings: &Settings) -> miette::Result<f64> {
    for event in stage::run(MODEL, corpus, settings)? {
        if let Event::Epoch(epoch) = event {
            return Ok(epoch.training_loss);
        }
    }
    miette::bail!("the run had no end of an epoch")
}
