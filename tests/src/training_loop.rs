//! Runs of the training loop on the shipped text, small enough for a test.

use lossproof_gpt2::{Config, gpt2_initial};
use lossproof_loop::{
    Event, Length, Objective, Remainder, Run, RunError, Sampler, Schedule, SeededSampler, Semantics,
    Settings, TextCorpus, adam_w,
};
use lossproof_spec::{Clip, Dtype};
use lossproof_subject::{Device, LoopTrainer};
use lossproof_torch::Gpt2Config;
use std::sync::Arc;

const TEXT: &[u8] = include_bytes!("../../fixtures/text/alice.txt");

/// A trainer under the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// The reference.
    Reference,
    /// The one on libtorch.
    Libtorch,
    /// The same, which computes the activations of a block a second time in its backward pass.
    Recomputing,
}

impl Under {
    /// Both implementations.
    pub const BOTH: [Self; 2] = [Self::Reference, Self::Libtorch];

    /// A gpt2-pico of this kind at the initial parameters of seed 0.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn trainer(self, dtype: Dtype) -> Box<dyn LoopTrainer> {
        let initial = gpt2_initial(Config::Pico.shape(), 0);
        match self {
            Self::Reference => {
                let initial = Arc::new(initial);
                lossproof_gpt2::loop_trainer(Config::Pico, dtype, Device::Cpu, initial)
                    .expect("the reference")
            }
            Self::Libtorch => {
                lossproof_torch::loop_trainer(&Gpt2Config::PICO, dtype, Device::Cpu, Some(&initial))
                    .expect("libtorch")
            }
            Self::Recomputing => {
                let (config, device) = (&Gpt2Config::PICO, Device::Cpu);
                lossproof_torch::recomputing_loop_trainer(config, dtype, device, Some(&initial))
                    .expect("libtorch")
            }
        }
    }
}

/// Three epochs in which nothing divides: a short last batch, a partial last window, warm-up, decay, clipping and
/// dropout.
#[must_use]
pub fn settings(semantics: Semantics) -> Settings {
    Settings {
        semantics,
        objective: Objective::Causal,
        block: 12,
        remainder: Remainder::Dropped,
        validation_percent: 10,
        batch: 3,
        evaluation_batch: 4,
        accumulate: 4,
        ranks: 1,
        length: Length::Epochs(3),
        seed: 7,
        rule: adam_w(0.1),
        learning_rate: 3e-3,
        schedule: Schedule::Linear,
        warm_up: 3,
        clip: Some(Clip { max_norm: 0.5, epsilon: 1e-6 }),
        label_smoothing: 0.0,
        dropout: 0.1,
        evaluate_every: 0,
    }
}

/// The first lines of the shipped text as blocks for gpt2-pico.
///
/// # Panics
/// When there is no block.
#[must_use]
pub fn corpus(settings: &Settings) -> TextCorpus {
    let lines = TEXT[..1780].split_inclusive(|&byte| byte == b'\n');
    let lines: Vec<Vec<u32>> =
        lines.map(|line| line.iter().map(|&byte| u32::from(byte) % 64).collect()).collect();
    TextCorpus::new(&lines, 64, settings).expect("blocks")
}

/// A whole run of a fresh trainer.
///
/// # Errors
/// As [`Run::advance`].
pub fn run(under: Under, dtype: Dtype, settings: &Settings) -> Result<Vec<Event>, RunError> {
    let corpus = corpus(settings);
    let sampler = SeededSampler::new(corpus.training_blocks().len(), settings);
    run_in(under, dtype, settings, &sampler)
}

/// A whole run of a fresh trainer in the order of a sampler.
///
/// # Errors
/// As [`Run::advance`].
pub fn run_in(
    under: Under,
    dtype: Dtype,
    settings: &Settings,
    sampler: &dyn Sampler,
) -> Result<Vec<Event>, RunError> {
    let corpus = corpus(settings);
    let mut trainer = under.trainer(dtype);
    Run::new(&mut *trainer, &corpus, sampler, settings)?.finish()
}
