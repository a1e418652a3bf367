//! One step of femto-gpt's training loop, as far as the optimizer.

use crate::{
    Config, failed,
    tap::{self, Sample, Seen, Tap, Wire},
};
use femto_gpt::{
    gpt::{GPT, TrainingState},
    optimizer::{AdamW, OptimizerState},
    tensor::Tensor,
};
use lossproof_subject::SubjectError;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// Tensors by femto-gpt's names.
pub(crate) type Tensors = HashMap<String, Tensor<f32>>;

pub(crate) struct Trainer {
    model: GPT<Tap>,
    wire: Arc<Mutex<Wire>>,
    /// A single thread, so that samples are taken, and their gradients added, in one order.
    thread: ThreadPool,
}

/// What a step computed before the optimizer.
pub(crate) struct Step {
    /// The loss that the loop prints.
    pub(crate) loss: f32,
    /// Sample by sample.
    pub(crate) token_losses: Vec<f32>,
    pub(crate) gradient: Tensors,
}

impl Trainer {
    /// With femto-gpt's own initial parameters from one seed.
    pub(crate) fn new(config: Config) -> Result<Self, SubjectError> {
        let wire = Arc::new(Mutex::new(Wire::default()));
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let dropout = 0.0;
        let model = GPT::new(
            &mut random,
            Tap::new(Arc::clone(&wire)),
            None,
            config.vocabulary,
            config.width,
            config.predictions,
            config.layers,
            config.heads,
            config.head_size,
            dropout,
        );
        let thread = ThreadPoolBuilder::new().num_threads(1).build().map_err(failed)?;
        Ok(Self { model: model.map_err(failed)?, wire, thread })
    }

    /// All parameters.
    pub(crate) fn parameters(&self) -> Result<Tensors, SubjectError> {
        Ok(self.model.get_training_state().map_err(failed)?.tensors)
    }

    /// Replaces the parameters that `tensors` has.
    pub(crate) fn load(&mut self, tensors: Tensors) -> Result<(), SubjectError> {
        let state = TrainingState { tensors, optimizer: OptimizerState::default() };
        self.model.set_training_state(state, false).map_err(failed)
    }

    /// One pass of the training loop over these samples.
    pub(crate) fn step(&mut self, samples: Vec<Sample>) -> Result<Step, SubjectError> {
        let count = samples.len();
        *tap::open(&self.wire) =
            Wire { samples: samples.into_iter().enumerate().collect(), ..Wire::default() };
        // The loop draws its samples from this, and the graph puts ours in their place.
        let text = [0];
        let model = &mut self.model;
        let learning_rate = |_| 0.0;
        let ran = self
            .thread
            .install(|| model.train_cpu(&text, 1, count, None, &AdamW::new(), learning_rate, |_| Ok(())));
        ran.map_err(failed)?;
        let Wire { mut seen, gradient, .. } = std::mem::take(&mut *tap::open(&self.wire));
        seen.sort_by_key(|seen| seen.sample);
        // As the loop does, which prints it and returns nothing.
        let loss = seen.iter().map(|seen| seen.loss).sum::<f32>() / count as f32;
        let token_losses = seen.into_iter().flat_map(|Seen { token_losses, .. }| token_losses).collect();
        Ok(Step { loss, token_losses, gradient: gradient.into_iter().collect() })
    }
}
