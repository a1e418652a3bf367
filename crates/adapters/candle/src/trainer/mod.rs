//! A training loop written with candle: windows of micro-batches, backward, clipping, `AdamW`, validation.
//!
//! Nothing here knows of the laws. [`Bug`] has what users get wrong in such a loop.

mod batch;
mod bug;
mod gpt2;
mod layers;
mod llama;
mod model;
mod optimizer;
mod parameters;
mod settings;

pub use batch::{Example, IGNORED};
pub use bug::Bug;
pub use model::{POSITIONS, VOCABULARY};
pub use optimizer::AdamWConfig;
pub use parameters::Parameters;
pub use settings::{Architecture, Kernel, Mean, Precision, Settings};

use batch::Batch;
use candle_core::{DType, Result, Tensor, backprop::GradStore};
use model::Decoder;
use optimizer::{AdamW, Gradients};
use std::collections::BTreeMap;

/// A model in training.
pub struct Trainer {
    settings: Settings,
    parameters: Parameters,
    /// What a restart returns to.
    initial: BTreeMap<String, Tensor>,
    model: Box<dyn Decoder>,
    optimizer: Option<AdamW>,
    /// One for each parameter, zero where nothing has come yet.
    gradients: Gradients,
    /// Micro-batches of the longest window so far.
    longest: usize,
}

/// What is logged of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logged {
    /// Its loss.
    pub loss: f64,
    /// Tokens that are not ignored.
    pub tokens: usize,
}

/// What is logged of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLog {
    /// Of its window.
    pub window: Logged,
    /// The learning rate.
    pub learning_rate: f64,
    /// The norm of each parameter's gradient before clipping, in the order of their names.
    pub norms: Vec<f64>,
    /// The norm of all of them together.
    pub norm: f64,
    /// What the gradient was multiplied with to be clipped.
    pub clip_factor: f64,
}

/// What a validation prints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validated {
    /// Mean over all tokens that are not ignored; NaN without one.
    pub loss: f64,
    /// `exp` of it.
    pub perplexity: f64,
    /// Those tokens.
    pub tokens: usize,
}

impl Trainer {
    /// With initial parameters from the settings' seed, and without an optimizer.
    ///
    /// # Errors
    /// When candle fails.
    pub fn new(settings: Settings) -> Result<Self> {
        let mut parameters = Parameters::new(settings.precision.dtype(), settings.seed);
        let model: Box<dyn Decoder> = match settings.architecture {
            Architecture::Gpt2 => Box::new(gpt2::Gpt2::new(&mut parameters)?),
            Architecture::Llama => Box::new(llama::Llama::new(&mut parameters)?),
        };
        let initial = parameters.checkpoint()?;
        let (optimizer, gradients) = (None, Gradients::new());
        let mut trainer = Self { settings, parameters, initial, model, optimizer, gradients, longest: 0 };
        trainer.zero_grad()?;
        Ok(trainer)
    }

    /// What the trainer was made with.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// What is trained.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Takes the parameters of a checkpoint, which a restart returns to from now on, and restarts.
    ///
    /// # Errors
    /// When a parameter is missing, unknown, of another shape or not finite; then nothing has changed.
    pub fn load(&mut self, checkpoint: BTreeMap<String, Tensor>) -> Result<()> {
        self.parameters.load(&checkpoint)?;
        self.initial = checkpoint;
        self.start(None)
    }

    /// Back to the initial parameters, without an optimizer.
    ///
    /// # Errors
    /// When candle fails.
    pub fn restart(&mut self) -> Result<()> {
        self.parameters.load(&self.initial)?;
        self.start(None)
    }

    /// Begins a training: no gradient, no window before, and this optimizer at step 0.
    ///
    /// # Errors
    /// When candle fails.
    pub fn start(&mut self, optimizer: Option<AdamWConfig>) -> Result<()> {
        self.optimizer = optimizer.map(AdamW::new);
        self.longest = 0;
        self.zero_grad()
    }

    /// The gradient of a window's loss by the names of the parameters. No step is taken.
    ///
    /// # Errors
    /// When candle fails.
    pub fn gradient(&mut self, window: &[Vec<Example>]) -> Result<(Logged, BTreeMap<String, Tensor>)> {
        let logged = self.accumulate(window)?;
        let gradient = self.gradients.clone();
        self.end_window()?;
        Ok((logged, gradient))
    }

    /// One optimizer step on a window.
    ///
    /// # Errors
    /// When no optimizer was started, or candle fails.
    pub fn step(&mut self, window: &[Vec<Example>]) -> Result<StepLog> {
        let window = self.accumulate(window)?;
        let Some(optimizer) = &mut self.optimizer else {
            candle_core::bail!("no optimizer was started");
        };
        let learning_rate = optimizer.config.learning_rate_at(optimizer.step);
        let norms = optimizer::norms(&self.gradients)?;
        let norm = optimizer::global_norm(&norms);
        let mut clip_factor = 1.0;
        if !self.settings.has(Bug::ClippedPerMicroBatch) {
            clip_factor = optimizer.config.clip_factor(norm);
            if clip_factor < 1.0 {
                optimizer::scale(&mut self.gradients, clip_factor)?;
            }
        }
        optimizer.update(&self.parameters, &self.gradients, &self.settings)?;
        self.end_window()?;
        Ok(StepLog { window, learning_rate, norms, norm, clip_factor })
    }

    /// `−log p` of what each position is scored against, row by row without the last position; 0 where it is
    /// ignored.
    ///
    /// # Errors
    /// When candle fails.
    pub fn token_losses(&self, examples: &[Example]) -> Result<Vec<Vec<f64>>> {
        let batch = Batch::collate(examples, &self.settings)?;
        let all: Vec<f64> = self.losses(&batch)?.to_dtype(DType::F64)?.to_vec1()?;
        let mut rows = Vec::new();
        let of_rows = all.chunks(batch.width).zip(batch.targets.chunks(batch.width));
        for (example, (losses, targets)) in examples.iter().zip(of_rows) {
            let mut row = Vec::new();
            for (&loss, &target) in losses.iter().zip(targets).take(example.tokens.len().saturating_sub(1)) {
                row.push(if target == IGNORED { 0.0 } else { loss });
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Mean loss and perplexity over all batches.
    ///
    /// # Errors
    /// When candle fails.
    pub fn validate(&self, batches: &[Vec<Example>]) -> Result<Validated> {
        let (mut sum, mut tokens) = (0.0, 0);
        for examples in batches {
            let batch = Batch::collate(examples, &self.settings)?;
            if let Some(loss) = self.summed(&batch)? {
                sum += scalar(&loss)?;
            }
            tokens += batch.counted;
        }
        let loss = sum / tokens as f64;
        Ok(Validated { loss, perplexity: loss.exp(), tokens })
    }

    /// Forward and backward over all micro-batches of a window.
    fn accumulate(&mut self, window: &[Vec<Example>]) -> Result<Logged> {
        let mut batches = Vec::new();
        for examples in window {
            batches.push(Batch::collate(examples, &self.settings)?);
        }
        let tokens: usize = batches.iter().map(|batch| batch.counted).sum();
        self.longest = self.longest.max(batches.len());
        let mut loss = 0.0;
        for batch in &batches {
            if self.settings.has(Bug::ZeroGradInWindow) {
                self.zero_grad()?;
            }
            let Some(summed) = self.summed(batch)? else { continue };
            let of_tokens = tokens as f64;
            let of_micro_batches = (batch.counted * batches.len()) as f64;
            let averages_micro_batches =
                self.settings.mean == Mean::OfMicroBatches || self.settings.has(Bug::MeanOfMeans);
            let (mut divisor, mut other) = (of_tokens, of_micro_batches);
            if averages_micro_batches {
                (divisor, other) = (other, divisor);
            }
            if self.settings.has(Bug::PartialWindow) {
                divisor *= self.longest as f64 / batches.len() as f64;
            }
            let scaled = (&summed / divisor)?;
            loss += if self.settings.has(Bug::OtherLossLogged) {
                scalar(&summed)? / other
            } else {
                scalar(&scaled)?
            };
            self.add_gradient(&scaled.backward()?)?;
        }
        Ok(Logged { loss, tokens })
    }

    /// The summed losses of the tokens that are not ignored; `None` without one.
    fn summed(&self, batch: &Batch) -> Result<Option<Tensor>> {
        let mut kept: Vec<u32> = Vec::new();
        for (place, &target) in (0..).zip(&batch.targets) {
            if target != IGNORED {
                kept.push(place);
            }
        }
        if kept.is_empty() {
            return Ok(None);
        }
        let losses = self.losses(batch)?;
        let kept = Tensor::new(kept, losses.device())?;
        Ok(Some(losses.index_select(&kept, 0)?.sum_all()?))
    }

    /// The loss of every position, row after row; of one that is ignored that of token 0.
    fn losses(&self, batch: &Batch) -> Result<Tensor> {
        let logits = self.model.logits(batch, &self.settings)?;
        let targets: Vec<u32> =
            batch.targets.iter().map(|&target| u32::try_from(target).unwrap_or(0)).collect();
        let logits = logits.reshape((batch.rows * batch.width, VOCABULARY))?;
        let targets = Tensor::new(targets, logits.device())?.unsqueeze(1)?;
        candle_nn::ops::log_softmax(&logits, 1)?.gather(&targets, 1)?.squeeze(1)?.neg()
    }

    fn add_gradient(&mut self, store: &GradStore) -> Result<()> {
        let mut added = Gradients::new();
        for (name, variable) in self.parameters.iter() {
            if let Some(gradient) = store.get(variable) {
                // A gradient keeps the graph that it was computed with until it is detached.
                added.insert(name.to_owned(), gradient.detach());
            }
        }
        if self.settings.has(Bug::ClippedPerMicroBatch)
            && let Some(optimizer) = &self.optimizer
        {
            let norm = optimizer::global_norm(&optimizer::norms(&added)?);
            optimizer::scale(&mut added, optimizer.config.clip_factor(norm))?;
        }
        for (name, gradient) in added {
            let sum = match self.gradients.get(&name) {
                Some(before) => (before + gradient)?,
                None => gradient,
            };
            self.gradients.insert(name, sum);
        }
        Ok(())
    }

    fn end_window(&mut self) -> Result<()> {
        if self.settings.has(Bug::ZeroGradMissing) { Ok(()) } else { self.zero_grad() }
    }

    fn zero_grad(&mut self) -> Result<()> {
        for (name, variable) in self.parameters.iter() {
            self.gradients.insert(name.to_owned(), variable.zeros_like()?);
        }
        Ok(())
    }
}

/// A loss as a number.
fn scalar(loss: &Tensor) -> Result<f64> {
    loss.to_dtype(DType::F64)?.to_scalar()
}
