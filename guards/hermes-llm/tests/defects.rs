//! Defects of hermes-llm 1.3.2 as it was released, each by its smallest reproduction, without lossproof.
//! They are listed in docs/bugs.md.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::{Device, safetensors};
use hermes_llm::{
    Config, Trainer,
    config::TrainingConfig,
    data::{DataLoader, Dataset},
};
use std::collections::BTreeMap;
use tempfile::TempDir;

const FIXED: &str = "hermes-llm no longer does what docs/bugs.md says of 1.3.2: update the entry";

/// Rows of four predictions; a text of n + 4 tokens has n of them, each one token further.
const ROW: usize = 4;
const TEXT: [u32; ROW + 3] = [3, 1, 4, 1, 5, 9, 2];

type Weights = BTreeMap<String, Vec<f32>>;

/// Checkpoints, the one that every trainer here starts from among them.
struct Checkpoints {
    folder: TempDir,
}

impl Checkpoints {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let first = Trainer::new(model(), TrainingConfig::default(), Device::Cpu).unwrap();
        first.save_checkpoint(folder.path().join("start")).unwrap();
        Self { folder }
    }

    fn trainer(&self, training: TrainingConfig) -> Trainer {
        let mut trainer = Trainer::new(model(), training, Device::Cpu).unwrap();
        trainer.load_checkpoint(self.folder.path().join("start")).unwrap();
        trainer
    }

    fn weights(&self, trainer: &Trainer) -> Weights {
        let path = self.folder.path().join("now");
        trainer.save_checkpoint(&path).unwrap();
        let tensors = safetensors::load(path, &Device::Cpu).unwrap().into_iter();
        tensors.map(|(name, tensor)| (name, tensor.flatten_all().unwrap().to_vec1().unwrap())).collect()
    }
}

fn model() -> Config {
    Config {
        vocab_size: 10,
        max_seq_len: 8,
        hidden_size: 8,
        num_layers: 2,
        intermediate_size: 16,
        dropout: 0.0,
        ..Config::nano()
    }
}

fn training() -> TrainingConfig {
    TrainingConfig { learning_rate: 0.01, grad_clip: 0.0, ..TrainingConfig::default() }
}

/// One epoch over a text, one row in each micro-batch. Returns the loss that it reports.
fn epoch(trainer: &mut Trainer, text: &[u32]) -> f64 {
    trainer.train_epoch(&mut DataLoader::new(Dataset::new(text.to_vec(), ROW), 1, false)).unwrap()
}

fn bits(weights: &Weights) -> BTreeMap<&str, Vec<u32>> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    weights.iter().map(|(name, values)| (name.as_str(), bits(values))).collect()
}

#[test]
fn of_two_micro_batches_only_the_last_is_in_the_step() {
    let checkpoints = Checkpoints::new();
    let mut both = checkpoints.trainer(TrainingConfig { gradient_accumulation_steps: 2, ..training() });
    epoch(&mut both, &TEXT[..ROW + 2]);
    let mut last = checkpoints.trainer(training());
    epoch(&mut last, &TEXT[1..ROW + 2]);
    assert_eq!(bits(&checkpoints.weights(&both)), bits(&checkpoints.weights(&last)), "{FIXED}");
}

#[test]
fn micro_batches_that_fill_no_window_are_dropped() {
    let checkpoints = Checkpoints::new();
    let two = || checkpoints.trainer(TrainingConfig { gradient_accumulation_steps: 2, ..training() });
    let (mut of_three, mut of_two) = (two(), two());
    epoch(&mut of_three, &TEXT);
    epoch(&mut of_two, &TEXT[..ROW + 2]);
    assert_eq!(bits(&checkpoints.weights(&of_three)), bits(&checkpoints.weights(&of_two)), "{FIXED}");
}

#[test]
fn gradient_clipping_shrinks_the_weights() {
    let checkpoints = Checkpoints::new();
    let norms = |weights: &Weights| -> Vec<f32> {
        weights.values().map(|values| values.iter().map(|value| value * value).sum::<f32>().sqrt()).collect()
    };
    // At a learning rate of 0 nothing moves, whatever the gradient is.
    let still = TrainingConfig { learning_rate: 0.0, ..training() };
    let mut unclipped = checkpoints.trainer(still.clone());
    let start = norms(&checkpoints.weights(&unclipped));
    epoch(&mut unclipped, &TEXT[..=ROW]);
    let same = norms(&checkpoints.weights(&unclipped));
    assert!(start.iter().zip(&same).all(|(before, after)| before.to_bits() == after.to_bits()));
    let mut clipped = checkpoints.trainer(TrainingConfig { grad_clip: 1.0, ..still });
    epoch(&mut clipped, &TEXT[..=ROW]);
    let after = norms(&checkpoints.weights(&clipped));
    assert!(start.iter().any(|norm| *norm > 2.0), "{start:?}");
    assert!(after.iter().all(|norm| *norm < 1.0 + 1e-6), "{after:?}: {FIXED}");
}

#[test]
fn the_second_epoch_reports_half_of_its_loss() {
    let checkpoints = Checkpoints::new();
    let mut trainer = checkpoints.trainer(TrainingConfig { learning_rate: 0.0, ..training() });
    let (first, second) = (epoch(&mut trainer, &TEXT), epoch(&mut trainer, &TEXT));
    assert!(first > 0.0);
    assert_eq!((first / 2.0).to_bits(), second.to_bits(), "{first} and {second}: {FIXED}");
}

/// The parameters that a step leaves as they are.
fn unmoved(frozen: usize) -> Vec<String> {
    let checkpoints = Checkpoints::new();
    let mut trainer = checkpoints.trainer(training());
    if frozen > 0 {
        trainer.freeze_layers(frozen).unwrap();
    }
    let before = checkpoints.weights(&trainer);
    epoch(&mut trainer, &TEXT);
    let after = checkpoints.weights(&trainer);
    let (before, after) = (bits(&before), bits(&after));
    before.iter().filter(|(name, bits)| after[*name] == **bits).map(|(name, _)| (*name).to_owned()).collect()
}

#[test]
fn queries_and_keys_are_never_trained() {
    let never = |layer: usize| {
        ["k_proj.bias", "k_proj.weight", "q_proj.bias", "q_proj.weight"]
            .map(|name| format!("layers.{layer}.attention.{name}"))
    };
    assert_eq!(unmoved(0), [never(0), never(1)].concat(), "{FIXED}");
}

#[test]
fn frozen_layers_are_trained() {
    assert_eq!(unmoved(1), unmoved(0), "{FIXED}");
}

#[test]
fn a_checkpoint_holds_neither_moments_nor_the_place() {
    let checkpoints = Checkpoints::new();
    let mut unbroken = checkpoints.trainer(training());
    epoch(&mut unbroken, &TEXT);
    let path = checkpoints.folder.path().join("between");
    unbroken.save_checkpoint(&path).unwrap();
    let steps = unbroken.global_step();
    epoch(&mut unbroken, &TEXT);
    let mut resumed = checkpoints.trainer(training());
    resumed.load_checkpoint(&path).unwrap();
    assert!(steps > 0 && resumed.global_step() == 0, "{FIXED}");
    epoch(&mut resumed, &TEXT);
    let (unbroken, resumed) = (checkpoints.weights(&unbroken), checkpoints.weights(&resumed));
    assert_ne!(bits(&unbroken), bits(&resumed), "{FIXED}");
}

#[test]
fn rows_that_fill_no_micro_batch_are_dropped() {
    let checkpoints = Checkpoints::new();
    let after = |text: &[u32]| {
        let mut trainer = checkpoints.trainer(training());
        trainer.train_epoch(&mut DataLoader::new(Dataset::new(text.to_vec(), ROW), 2, false)).unwrap();
        checkpoints.weights(&trainer)
    };
    assert_eq!(bits(&after(&TEXT)), bits(&after(&TEXT[..ROW + 2])), "{FIXED}");
}

#[test]
fn what_is_evaluated_are_whole_micro_batches_alone() {
    let checkpoints = Checkpoints::new();
    let trainer = checkpoints.trainer(training());
    let evaluated = |text: &[u32], rows: usize| {
        trainer.evaluate(&mut DataLoader::new(Dataset::new(text.to_vec(), ROW), rows, false)).unwrap()
    };
    assert_eq!(evaluated(&TEXT, 2).to_bits(), evaluated(&TEXT[..ROW + 2], 2).to_bits(), "{FIXED}");
    // A text that fills no micro-batch has a loss of 0, as one that is known by heart.
    assert_eq!(evaluated(&TEXT, 4).to_bits(), 0.0_f64.to_bits(), "{FIXED}");
}
