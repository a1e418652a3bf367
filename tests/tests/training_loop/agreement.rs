//! The training loop on both trainers: they agree under either semantics, and what must not matter does not.

use lossproof_gpt2::{Config, gpt2_initial};
use lossproof_loop::{
    Cut, Event, Length, Objective, Remainder, RowsReversed, Run, Schedule, SeededSampler, Semantics,
    Settings, Update, reductions, semantics::Shards,
};
use lossproof_spec::{Dtype, LossSpec, Rule, Sequence};
use lossproof_subject::{
    Device, Dropout, LoopTrainer, Sample, SamplePlace, TensorSet, TrainingBatch, gradient_of, state_of,
};
use lossproof_tests::training_loop::{Under, corpus, run, run_in, settings};
use lossproof_torch::{Gpt2Config, loop_trainer, recomputing_loop_trainer};
use std::collections::BTreeSet;

/// Every number of a run that an implementation may round in its own way: losses, norms and what is validated.
fn numbers(events: &[Event]) -> Vec<f64> {
    let mut numbers = Vec::new();
    for event in events {
        match event {
            Event::Update(update) => {
                numbers.extend([update.loss, update.grad_norm, update.clip_factor]);
                numbers.extend(update.micro_batches.iter().flat_map(|one| one.losses.clone()));
            }
            Event::Validation { validation, .. } => numbers.extend([validation.loss, validation.perplexity]),
            Event::Epoch(epoch) => {
                numbers.extend([epoch.training_loss, epoch.validation.loss, epoch.validation.perplexity]);
            }
        }
    }
    numbers
}

fn rates(events: &[Event]) -> Vec<f64> {
    updates(events).map(|update| update.learning_rate).collect()
}

fn updates(events: &[Event]) -> impl Iterator<Item = &Update> {
    events.iter().filter_map(|event| match event {
        Event::Update(update) => Some(update),
        _ => None,
    })
}

/// The largest relative difference between numbers of two runs.
fn apart(some: &[Event], others: &[Event]) -> f64 {
    let (some, others) = (numbers(some), numbers(others));
    assert_eq!(some.len(), others.len());
    let relative = |(a, b): (&f64, &f64)| (a - b).abs() / a.abs().max(b.abs()).max(f64::MIN_POSITIVE);
    some.iter().zip(&others).map(relative).fold(0.0, f64::max)
}

/// How far a run moves when its sums are taken in another order.
fn spread(settings: &Settings) -> f64 {
    let sampler = SeededSampler::new(corpus(settings).training_blocks().len(), settings);
    let other =
        run_in(Under::Reference, Dtype::F64, settings, &RowsReversed(sampler)).expect("the run of a test");
    apart(&run(Under::Reference, Dtype::F64, settings).expect("the run of a test"), &other)
}

/// Two implementations may differ by 16 times what one does between two orders of summation, and never by more than
/// 1e-12.
fn agree(settings: &Settings) {
    let [ours, theirs] =
        Under::BOTH.map(|under| run(under, Dtype::F64, settings).expect("the run of a test"));
    assert_eq!(rates(&ours), rates(&theirs));
    let (apart, spread) = (apart(&ours, &theirs), spread(settings));
    assert!(spread > 0.0, "another order of summation must round otherwise");
    // The tracked loss of the script is single precision: there two roundings may fall on either side.
    let single = settings.semantics != Semantics::LAWFUL;
    let floor = if single { f64::from(f32::EPSILON) } else { 0.0 };
    assert!(apart <= (16.0 * spread).min(1e-12).max(floor), "{apart:e} apart, spread {spread:e}");
}

#[test]
fn both_trainers_log_the_same_under_either_semantics() {
    agree(&settings(Semantics::LAWFUL));
    agree(&Settings { ranks: 2, ..settings(Semantics::RUN_CLM_NO_TRAINER) });
}

#[test]
fn both_trainers_log_the_same_for_every_objective() {
    for objective in [Objective::Masked, Objective::Prefix] {
        agree(&Settings { objective, label_smoothing: 0.1, ..settings(Semantics::LAWFUL) });
    }
}

/// Batch size, accumulation and ranks are how the samples of an update are split, and nothing else, with dropout on and
/// blocks of unequal length.
#[test]
fn how_an_update_is_split_does_not_matter() {
    let lawful = Settings { remainder: Remainder::Kept, ..settings(Semantics::LAWFUL) };
    let whole = run(Under::Reference, Dtype::F64, &Settings { batch: 12, accumulate: 1, ..lawful }).unwrap();
    let splits = [(3, 4, 1), (6, 2, 1), (3, 2, 2), (2, 2, 3), (1, 3, 4)];
    for (batch, accumulate, ranks) in splits {
        let split =
            run(Under::Reference, Dtype::F64, &Settings { batch, accumulate, ranks, ..lawful }).unwrap();
        assert_eq!(rates(&whole), rates(&split));
        for (whole, split) in updates(&whole).zip(updates(&split)) {
            assert_eq!((whole.tokens, whole.samples), (split.tokens, split.samples));
            for (a, b) in [(whole.loss, split.loss), (whole.grad_norm, split.grad_norm)] {
                assert!((a - b).abs() <= 1e-12 * a.abs(), "{batch}, {accumulate}, {ranks}: {a} and {b}");
            }
        }
    }
}

/// The script's own loop does not have that property, which is what its quirks are about.
#[test]
fn how_an_update_is_split_matters_to_the_script() {
    let script = settings(Semantics::RUN_CLM_NO_TRAINER);
    let whole = run(Under::Reference, Dtype::F64, &Settings { batch: 12, accumulate: 1, ..script }).unwrap();
    let split = run(Under::Reference, Dtype::F64, &script).unwrap();
    let differs = |(a, b): (&Update, &Update)| (a.grad_norm - b.grad_norm).abs() > 1e-3 * a.grad_norm;
    assert!(updates(&whole).zip(updates(&split)).any(differs));
}

/// Every sample of an epoch once, in another order each epoch, whatever the split.
#[test]
fn every_sample_comes_once_an_epoch() {
    let settings = Settings { ranks: 2, ..settings(Semantics::LAWFUL) };
    let events = run(Under::Libtorch, Dtype::F64, &settings).unwrap();
    let samples = corpus(&settings).training_blocks().len();
    let mut orders = Vec::new();
    for epoch in 0..3 {
        let own =
            updates(&events).filter(|update| update.epoch == epoch).flat_map(|update| &update.micro_batches);
        let order: Vec<usize> = own.flat_map(|one| one.samples.concat()).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..samples).collect::<Vec<_>>());
        orders.push(order);
    }
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
}

/// The first update has a learning rate and the last one has, whatever the ranks; the script's have not.
#[test]
fn lawful_schedules_neither_begin_nor_end_at_zero() {
    for schedule in Schedule::ALL {
        for ranks in [1, 2, 4] {
            let lawful = Settings { schedule, ranks, ..settings(Semantics::LAWFUL) };
            let rates = rates(&run(Under::Libtorch, Dtype::F64, &lawful).unwrap());
            assert!(rates.iter().all(|&rate| rate > 0.0), "{schedule:?} on {ranks} ranks: {rates:?}");
        }
    }
    // Also where the run ends with its warm-up.
    let plain = settings(Semantics::LAWFUL);
    for schedule in Schedule::ALL {
        let brief = Settings { schedule, length: Length::Updates(4), warm_up: 4, ..plain };
        let rates = rates(&run(Under::Libtorch, Dtype::F64, &brief).unwrap());
        let expected = [0.25, 0.5, 0.75, 1.0].map(|part| part * plain.learning_rate);
        assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-15), "{schedule:?}: {rates:?}");
    }
    let script = Settings { ranks: 8, ..settings(Semantics::RUN_CLM_NO_TRAINER) };
    let rates = rates(&run(Under::Libtorch, Dtype::F64, &script).unwrap());
    let zeros = rates.iter().filter(|rate| rate.abs() <= 0.0).count();
    assert!(rates[0].abs() <= 0.0 && zeros > 1, "{rates:?}");
}

/// One rank of the script validates exactly; two do not, where the samples do not divide.
#[test]
fn the_script_validates_wrongly_where_ranks_are_filled_up() {
    let last = |settings: &Settings| match run(Under::Libtorch, Dtype::F64, settings).unwrap().pop() {
        Some(Event::Epoch(epoch)) => epoch,
        other => panic!("a run ends with an epoch, not with {other:?}"),
    };
    let script = settings(Semantics::RUN_CLM_NO_TRAINER);
    let frozen = |ranks, semantics| Settings { ranks, semantics, learning_rate: 0.0, ..script };
    let [exact, one, two] = [
        frozen(1, Semantics::LAWFUL),
        frozen(1, Semantics::RUN_CLM_NO_TRAINER),
        frozen(2, Semantics::RUN_CLM_NO_TRAINER),
    ]
    .map(|settings| last(&settings).validation);
    assert!((exact.loss - one.loss).abs() < 1e-14 * exact.loss, "{exact:?} {one:?}");
    assert!((exact.loss - two.loss).abs() > 1e-5 * exact.loss, "{exact:?} {two:?}");
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let lawful = settings(Semantics::LAWFUL);
    let refused = |settings: Settings| settings.check().unwrap_err().to_string();
    assert_eq!(refused(Settings { batch: 0, ..lawful }), "the batch is 0: give at least 1");
    assert_eq!(refused(Settings { dropout: 1.0, ..lawful }), "dropout is 1: give a number of [0, 1)");
    assert!(refused(Settings { block: 1, ..lawful }).contains("one token predicts nothing"));
    assert!(Cut { batch: 2, ranks: 2, shards: Shards::FilledUp }.micro_batches(&[]).is_empty());
}

/// Where no token of a window is masked there is nothing to learn: the lawful loop makes no update, and
/// counts none. The script makes one, logs NaN, and is as long as it was planned.
#[test]
fn a_window_without_a_loss_is_an_update_for_the_script_alone() {
    let masked = |semantics| Settings {
        objective: Objective::Masked,
        block: 2,
        batch: 1,
        accumulate: 2,
        ..settings(semantics)
    };
    let of = |semantics| run(Under::Libtorch, Dtype::F64, &masked(semantics)).unwrap();
    let [lawful, script] = [Semantics::LAWFUL, Semantics::RUN_CLM_NO_TRAINER].map(of);
    let empty = |events: &[Event]| updates(events).filter(|update| update.tokens == 0).count();
    let skipped = |events: &[Event]| updates(events).filter(|update| update.skipped).count();
    assert!(empty(&lawful) > 10);
    assert_eq!((skipped(&lawful), skipped(&script)), (empty(&lawful), 0));
    let made = |events: &[Event]| {
        updates(events).filter(|update| !update.skipped).last().map(|update| update.update)
    };
    assert_eq!(made(&lawful), Some((updates(&lawful).count() - empty(&lawful)) as u64));
    assert_eq!(made(&script), Some(updates(&script).count() as u64));
    let tracked = |events: &[Event]| match events.last() {
        Some(Event::Epoch(epoch)) => epoch.training_loss,
        other => panic!("a run ends with an epoch, not with {other:?}"),
    };
    assert!(tracked(&lawful).is_finite() && tracked(&script).is_nan());
}

fn epochs(events: &[Event]) -> Vec<lossproof_loop::Epoch> {
    let of = |event: &Event| if let Event::Epoch(epoch) = event { Some(*epoch) } else { None };
    events.iter().filter_map(of).collect()
}

/// Blocks of unequal length and masks of unequal number, so that a mean of means would be another number.
fn ragged(objective: Objective) -> Settings {
    Settings { objective, remainder: Remainder::Kept, ..settings(Semantics::LAWFUL) }
}

#[test]
fn the_training_loss_is_the_mean_over_all_tokens_of_the_epoch() {
    for objective in [Objective::Causal, Objective::Masked] {
        let events = run(Under::Libtorch, Dtype::F64, &Settings { ranks: 2, ..ragged(objective) }).unwrap();
        for epoch in epochs(&events) {
            let own = || updates(&events).filter(|update| update.epoch == epoch.epoch && update.tokens > 0);
            let tokens: u64 = own().map(|update| update.tokens).sum();
            let sum: f64 = own().map(|update| update.loss * update.tokens as f64).sum();
            let mean = sum / tokens as f64;
            assert!((epoch.training_loss - mean).abs() <= 1e-14 * mean, "{objective:?}: {epoch:?}, {mean}");
        }
    }
}

/// Whatever the ranks, the batches, smoothing and dropout: the mean over the tokens of all samples, each once.
#[test]
fn a_validation_is_the_mean_over_all_tokens_however_it_is_split() {
    for objective in [Objective::Causal, Objective::Masked, Objective::Prefix] {
        let still = Settings { learning_rate: 0.0, length: Length::Epochs(1), ..ragged(objective) };
        let mut trainer = Under::Libtorch.trainer(Dtype::F64);
        let expected = reductions(&mut *trainer, &corpus(&still), &still).unwrap();
        assert!((expected.sequence_mean - expected.token_mean).abs() > 1e-6, "the samples must be unequal");
        for (ranks, evaluation_batch) in [(1, 1), (1, 4), (2, 3), (3, 2), (4, 5)] {
            for (label_smoothing, dropout) in [(0.0, 0.0), (0.2, 0.3)] {
                let split = Settings { ranks, evaluation_batch, label_smoothing, dropout, ..still };
                let events = run(Under::Libtorch, Dtype::F64, &split).unwrap();
                let validation = epochs(&events)[0].validation;
                assert_eq!(validation.tokens, expected.tokens);
                let apart = (validation.loss - expected.token_mean).abs();
                assert!(apart <= 1e-14 * expected.token_mean, "{objective:?}, {ranks} × {evaluation_batch}");
                assert!(
                    (validation.perplexity - validation.loss.exp()).abs() <= 1e-12 * validation.perplexity
                );
            }
        }
    }
}

/// Under plain SGD an update moves all parameters together by the learning rate times the clipped norm.
#[test]
fn what_is_clipped_is_what_is_stepped() {
    for under in Under::BOTH {
        let rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
        let plain = Settings { rule, ..settings(Semantics::LAWFUL) };
        let corpus = corpus(&plain);
        let sampler = SeededSampler::new(corpus.training_blocks().len(), &plain);
        let mut trainer = under.trainer(Dtype::F64);
        let mut run = Run::new(&mut *trainer, &corpus, &sampler, &plain).unwrap();
        let mut before = state_of(run.trainer()).unwrap().parameters;
        for _ in 0..4 {
            let Some(Event::Update(update)) = run.advance().unwrap() else { panic!("an update comes first") };
            let after = state_of(run.trainer()).unwrap().parameters;
            let mut moved = 0.0;
            for (name, tensor) in &after {
                for index in 0..tensor.elements() {
                    moved += (tensor.get(index) - before[name].get(index)).powi(2);
                }
            }
            let expected = update.learning_rate * update.clip_factor * update.grad_norm;
            assert!(update.clip_factor < 1.0);
            assert!(
                (moved.sqrt() - expected).abs() <= 1e-12 * expected,
                "{under:?}, update {}",
                update.update
            );
            before = after;
        }
    }
}

/// The gradient of one micro-batch under dropout.
fn gradient_under_dropout(mut trainer: Box<dyn LoopTrainer + Send>) -> TensorSet {
    let sample = |index: u32| {
        let tokens: Vec<u32> = (0..9).map(|at| (7 * at + 3 * index) % 29).collect();
        let labels = tokens.iter().copied().map(i64::from).collect();
        let sequence = Sequence::new(tokens, labels).expect("tokens are labels");
        Sample { sequence, place: SamplePlace { epoch: 1, sample: index }, prefix: 0 }
    };
    let batch = TrainingBatch::new([sample(0), sample(1)]).expect("two samples");
    let rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
    trainer.begin(&rule, &BTreeSet::new(), &BTreeSet::new()).expect("SGD");
    let dropout = Dropout::everywhere(0.25, 11);
    trainer.backward(&batch, &LossSpec::token_mean(), 0.5, &dropout).expect("a backward pass");
    gradient_of(&mut *trainer).expect("a gradient")
}

/// Other masks in the second pass over a block would make another gradient.
#[test]
fn recomputation_has_the_masks_of_the_first_pass() {
    // Several blocks, which could be taken for each other.
    let (config, initial) = (&Gpt2Config::NANO, gpt2_initial(Config::Nano.shape(), 0));
    let once = loop_trainer(config, Dtype::F64, Device::Cpu, Some(&initial)).expect("libtorch");
    let twice = recomputing_loop_trainer(config, Dtype::F64, Device::Cpu, Some(&initial)).expect("libtorch");
    let (once, twice) = (gradient_under_dropout(once), gradient_under_dropout(twice));
    assert!(once == twice, "the gradient of one micro-batch is the same to the bit");

    let settings = Settings { dropout: 0.25, ..settings(Semantics::LAWFUL) };
    let [once, twice] = [Under::Libtorch, Under::Recomputing]
        .map(|under| run(under, Dtype::F64, &settings).expect("the run of a test"));
    let apart = apart(&once, &twice);
    assert!(apart <= (16.0 * spread(&settings)).min(1e-12), "{apart:e} apart");
}
