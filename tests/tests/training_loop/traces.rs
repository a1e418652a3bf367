//! The trace of one lawful run of gpt2-nano, kept as a snapshot, and where runs part that are told one thing otherwise.

use lossproof_gpt2::{Config, gpt2_initial};
use lossproof_loop::{
    Change, Event, Length, Number, Run, Schedule, SeededSampler, Semantics, Settings, TextCorpus, divergence,
    semantics::DecayGroups,
};
use lossproof_spec::{Clip, Dtype};
use lossproof_subject::{Device, LoopTrainer};
use lossproof_tests::training_loop::{Under, run, settings};
use lossproof_torch::Gpt2Config;
use std::{fmt::Write, sync::Arc};

const TEXT: &[u8] = include_bytes!("../../../fixtures/text/alice.txt");

/// Two implementations, as far apart as `agreement` lets them be.
const FURTHEST: f64 = 1e-12;

/// Three epochs of gpt2-nano on the first 6000 bytes of the shipped text.
fn nano(trainer: &mut dyn LoopTrainer) -> Vec<Event> {
    let settings = Settings { block: 48, batch: 4, evaluation_batch: 4, ..settings(Semantics::LAWFUL) };
    let lines = TEXT[..6000].split_inclusive(|&byte| byte == b'\n');
    let lines: Vec<Vec<u32>> = lines.map(|line| line.iter().map(|&byte| u32::from(byte)).collect()).collect();
    let corpus = TextCorpus::new(&lines, 257, &settings).expect("blocks");
    let sampler = SeededSampler::new(corpus.training_blocks().len(), &settings);
    let mut run = Run::new(trainer, &corpus, &sampler, &settings).expect("a run");
    run.finish().expect("its end")
}

/// What is logged, to eight digits: a ten-thousandth of what a bug moves, and ten thousand times what rounding does.
fn told(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            Event::Update(update) => writeln!(
                text,
                "update {:2} of epoch {}: loss {:.7e}, norm {:.7e}, rate {:.7e}, clip {:.7e}, {} tokens in {} \
                 micro-batches",
                update.update,
                update.epoch,
                update.loss,
                update.grad_norm,
                update.learning_rate,
                update.clip_factor,
                update.tokens,
                update.micro_batches.len(),
            ),
            Event::Validation { updates, validation } => {
                writeln!(text, "after {updates}: validation {:.7e}", validation.loss)
            }
            Event::Epoch(epoch) => writeln!(
                text,
                "epoch {}: training {:.7e}, validation {:.7e}, perplexity {:.7e}",
                epoch.epoch, epoch.training_loss, epoch.validation.loss, epoch.validation.perplexity,
            ),
        }
        .expect("a string takes everything");
    }
    text
}

#[test]
fn a_lawful_run_of_nano_is_what_it_was_on_both_trainers() {
    let initial = gpt2_initial(Config::Nano.shape(), 0);
    let mut theirs =
        lossproof_torch::loop_trainer(&Gpt2Config::NANO, Dtype::F64, Device::Cpu, Some(&initial)).unwrap();
    let mut ours =
        lossproof_gpt2::loop_trainer(Config::Nano, Dtype::F64, Device::Cpu, Arc::new(initial)).unwrap();
    let [ours, theirs] = [nano(&mut *ours), nano(&mut *theirs)];
    assert_eq!(divergence(&ours, &theirs, FURTHEST), None);
    insta::assert_snapshot!("loop-nano", told(&ours));
}

/// The change that is found first, and the update at which it is.
fn parts(change: impl FnOnce(&mut Settings)) -> (u64, Change) {
    let plain = settings(Semantics::LAWFUL);
    let mut other = plain;
    change(&mut other);
    let of = |settings: &Settings| run(Under::Libtorch, Dtype::F64, settings).expect("a run");
    let found = divergence(&of(&plain), &of(&other), FURTHEST).expect("they differ");
    (found.update, found.change)
}

#[test]
fn where_two_runs_part_is_named_by_what_changed() {
    assert_eq!(parts(|settings| settings.seed = 8), (1, Change::Order));
    assert_eq!(parts(|settings| settings.accumulate = 2), (1, Change::Window { first: 4, second: 2 }));
    let (update, change) = parts(|settings| settings.warm_up = 2);
    assert!(matches!(change, Change::Number { what: Number::LearningRate, .. }) && update == 1);
    let (update, change) = parts(|settings| settings.schedule = Schedule::Cosine);
    assert!(matches!(change, Change::Number { what: Number::LearningRate, .. }) && update > 3, "{update}");
    let (update, change) = parts(|settings| settings.clip = Some(Clip { max_norm: 0.25, epsilon: 1e-6 }));
    assert!(matches!(change, Change::Number { what: Number::ClipFactor, .. }) && update == 1, "{change:?}");
    let decay = |settings: &mut Settings| settings.semantics.decay = DecayGroups::NotLayerNormByName;
    assert_eq!(parts(decay), (2, Change::UpdateBefore));
    let (update, change) = parts(|settings| settings.label_smoothing = 0.1);
    assert!(matches!(change, Change::Number { what: Number::Loss, .. }) && update == 1);
    assert_eq!(parts(|settings| settings.length = Length::Epochs(2)).0, 5);
}

#[test]
fn a_run_is_nowhere_from_itself() {
    let plain = settings(Semantics::LAWFUL);
    let events = run(Under::Libtorch, Dtype::F64, &plain).unwrap();
    assert_eq!(divergence(&events, &events, 0.0), None);
    assert_eq!(divergence(&events, &events[..5], 0.0).unwrap().change, Change::Length);
}
