//! Where a resumed run goes on, which parameters decay, and which tokens are left out.

use super::{
    section::{BLOCK, MODEL, Section},
    stage::{self, BOTH, FirstBlocks, settings},
};
use crate::{number::grouped, source_text::SourceText};
use lossproof_gpt2::Config;
use lossproof_loop::{
    Corpus, Event, Plan, Progress, Run, SeededSampler, Semantics, Settings, TextCorpus, adam_w,
    semantics::DecayGroups, undecayed,
};
use lossproof_subject::{ParameterInfo, TrainerState, state_of};
use miette::IntoDiagnostic;

/// Blocks of an epoch of ten micro-batches, no multiple of the four of an update.
const SAMPLES: usize = 30;

/// Updates after which a run is interrupted.
const INTERRUPTED: [u64; 3] = [2, 3, 7];

/// How many times the shipped text is taken to have some thousands of lines.
const COPIES: usize = 10;

/// Where runs go on that were interrupted after some updates, and how many updates they have in the end.
pub(super) fn resumed() -> miette::Result<Section> {
    let corpus = FirstBlocks::new(MODEL, BLOCK, SAMPLES, 1)?;
    let [lawful, script] = BOTH.map(|semantics| settings(semantics, BLOCK));
    let plan = Plan::new(corpus.training_samples(), &lawful);
    let mut section = Section::new(format!(
        "a run of {} updates, resumed: epoch and micro-batch of {} it goes on with, from (0, 0)",
        plan.updates, plan.micro_batches
    ));
    for updates in INTERRUPTED {
        let mut places = Vec::new();
        let mut ends = Vec::new();
        for settings in [&lawful, &script] {
            let (progress, state) = interrupted(&corpus, settings, updates)?;
            let (place, end) = goes_on(&corpus, settings, progress, &state)?;
            places.push(format!("({}, {})", place.0, place.1));
            ends.push(grouped(end));
        }
        section.row(format!("after update {updates}"), [places[0].clone(), places[1].clone()]);
        section
            .row(format!("after update {updates}: updates in the end"), [ends[0].clone(), ends[1].clone()]);
    }
    Ok(section)
}

/// How far a run has come with so many updates, and the state it has then.
fn interrupted(
    corpus: &FirstBlocks,
    settings: &Settings,
    updates: u64,
) -> miette::Result<(Progress, TrainerState)> {
    let mut trainer = stage::trainer(MODEL)?;
    let sampler = SeededSampler::new(corpus.training_samples(), settings);
    let mut run = Run::new(&mut *trainer, corpus, &sampler, settings).into_diagnostic()?;
    while run.progress().updates < updates {
        if run.advance().into_diagnostic()?.is_none() {
            miette::bail!("the run has no {updates} updates");
        }
    }
    let state = state_of(run.trainer()).into_diagnostic()?;
    Ok((run.progress(), state))
}

/// The epoch and the micro-batch that a resumed run goes on with, and its updates in the end.
fn goes_on(
    corpus: &FirstBlocks,
    settings: &Settings,
    from: Progress,
    state: &TrainerState,
) -> miette::Result<((u32, usize), u64)> {
    let mut trainer = stage::trainer(MODEL)?;
    let sampler = SeededSampler::new(corpus.training_samples(), settings);
    let mut run = Run::new(&mut *trainer, corpus, &sampler, settings).into_diagnostic()?;
    run.trainer().restore(state).into_diagnostic()?;
    run.resume(from);
    let mut place = None;
    while let Some(event) = run.advance().into_diagnostic()? {
        if let (Event::Update(update), None) = (&event, place) {
            let start = update.micro_batches.first().map_or(0, |first| first.micro_batch);
            place = Some((update.epoch, start));
        }
    }
    let place = place.ok_or_else(|| miette::miette!("the resumed run had no update"))?;
    Ok((place, run.progress().updates))
}

/// Which parameters decay.
pub(super) fn decayed() -> miette::Result<Section> {
    let parameters = stage::trainer(MODEL)?.parameters();
    let mut section = Section::new(format!("decayed tensors, of the {} of a GPT-2", parameters.len()));
    let lawful = decaying(&parameters, Semantics::LAWFUL.decay);
    for (what, groups) in
        [("since #42769", DecayGroups::NotNorms), ("before #42769", DecayGroups::NotLayerNormByName)]
    {
        let script = decaying(&parameters, groups);
        let numbers = [lawful.len(), script.len()].map(grouped);
        section.row(what, numbers);
        let more: Vec<&str> = script.iter().copied().filter(|name| !lawful.contains(name)).collect();
        if !more.is_empty() {
            section.row(format!("{what}: which more"), [String::new(), more.join(", ")]);
        }
    }
    Ok(section)
}

/// The names of the parameters that decay.
fn decaying(parameters: &[ParameterInfo], groups: DecayGroups) -> Vec<&str> {
    let left_out = undecayed(parameters, groups, &adam_w(0.1));
    let names = parameters.iter().map(|info| info.name.as_str());
    names.filter(|name| !left_out.contains(*name)).collect()
}

/// How many tokens are in no block.
pub(super) fn left_out() -> miette::Result<Section> {
    let vocabulary = Config::Nano.shape().vocabulary;
    let shipped = SourceText::read(None)?.lines(vocabulary)?;
    let mut lines = Vec::new();
    for _ in 0..COPIES {
        lines.extend(shipped.iter().cloned());
    }
    let tokens: usize = lines.iter().map(Vec::len).sum();
    let mut section = Section::new(format!(
        "tokens in no block, of {} in the {} lines of {COPIES} copies of the shipped text",
        grouped(tokens),
        grouped(lines.len())
    ));
    for block in [16, 64, 1024] {
        let mut left = Vec::new();
        for semantics in BOTH {
            let settings = Settings { validation_percent: 0, ..settings(semantics, block) };
            let vocabulary = u32::try_from(vocabulary).into_diagnostic()?;
            let corpus = TextCorpus::new(&lines, vocabulary, &settings).into_diagnostic()?;
            let kept: usize = corpus.training_blocks().iter().map(Vec::len).sum();
            left.push(grouped(tokens - kept));
        }
        section.row(format!("blocks of {}", grouped(block)), [left[0].clone(), left[1].clone()]);
    }
    Ok(section)
}
