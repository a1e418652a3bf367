//! A trainer as small as shows everything that docs/plugging-in.md speaks of. It knows nothing of lossproof.
//!
//! It trains a model of the bag of words so far (`model.rs`) on windows of micro-batches, with a gradient
//! written by hand and `AdamW` (`adam_w.rs`).

mod adam_w;
mod model;

pub use adam_w::{AdamW, Settings};
pub use model::{PARAMETERS, POSITIONS, Tensors, VOCABULARY};

use model::Model;

/// One row of a micro-batch: tokens, and for each of them whether the model is to learn it.
#[derive(Clone, Debug)]
pub struct Row {
    pub tokens: Vec<usize>,
    /// The token itself, or another to be learned in its place; `None` where nothing is learned.
    pub labels: Vec<Option<usize>>,
}

/// What the losses of a window are averaged over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Average {
    /// All tokens of the window.
    Tokens,
    /// The tokens of each micro-batch; then the micro-batches.
    MicroBatches,
}

/// What is logged of an optimizer step.
pub struct StepLog {
    pub loss: f32,
    pub learning_rate: f32,
    /// Norms of the gradient of each parameter, before clipping.
    pub norms: Vec<f32>,
    pub clip_factor: f32,
}

/// What a validation prints.
pub struct Validated {
    pub loss: f64,
    pub perplexity: f64,
    pub tokens: usize,
}

/// The trainer.
pub struct Trainer {
    average: Average,
    model: Model,
    initial: Tensors,
    optimizer: Option<AdamW>,
}

impl Trainer {
    pub fn new(average: Average) -> Self {
        let model = Model::new();
        Self { average, initial: model.parameters.clone(), model, optimizer: None }
    }

    /// Back to the initial parameters, without an optimizer.
    pub fn restart(&mut self) {
        self.model.parameters.clone_from(&self.initial);
        self.optimizer = None;
    }

    /// Starts from these parameters.
    pub fn load(&mut self, parameters: Tensors) {
        self.initial = parameters;
        self.restart();
    }

    /// The parameters, in the order of [`PARAMETERS`].
    pub fn parameters(&self) -> &Tensors {
        &self.model.parameters
    }

    /// The same, to be changed.
    pub fn parameters_mut(&mut self) -> &mut Tensors {
        &mut self.model.parameters
    }

    /// Loss and gradient of a window of micro-batches.
    pub fn gradient(&self, window: &[Vec<Row>]) -> (f32, Tensors) {
        let in_window: usize = window.iter().map(|rows| learned(rows)).sum();
        let (mut loss, mut gradient) = (0.0, model::zeros());
        for rows in window {
            let divisor = match self.average {
                Average::Tokens => in_window,
                Average::MicroBatches => learned(rows) * window.len(),
            };
            let weight = 1.0 / divisor.max(1) as f32;
            for prediction in rows.iter().flat_map(predictions) {
                if let Some(label) = prediction.label {
                    loss += weight * self.model.backward(prediction.read, label, weight, &mut gradient);
                }
            }
        }
        (loss, gradient)
    }

    /// Loss and gradient of the sum of token losses with these weights, one for each prediction.
    pub fn weighted_gradient(&self, rows: &[Row], weights: &[f32]) -> (f32, Tensors) {
        let (mut loss, mut gradient) = (0.0, model::zeros());
        for (prediction, &weight) in rows.iter().flat_map(predictions).zip(weights) {
            if let Some(label) = prediction.label {
                loss += weight * self.model.backward(prediction.read, label, weight, &mut gradient);
            }
        }
        (loss, gradient)
    }

    /// The loss of every prediction, learned or not.
    pub fn token_losses(&self, rows: &[Row]) -> Vec<f32> {
        let all = rows.iter().flat_map(predictions);
        all.map(|prediction| self.model.loss(prediction.read, prediction.label.unwrap_or(prediction.next)))
            .collect()
    }

    /// Sets the optimizer, without moments and at step 0.
    pub fn start(&mut self, settings: Settings) {
        self.optimizer = Some(AdamW::new(settings));
    }

    /// One optimizer step on a window; `None` without an optimizer.
    pub fn step(&mut self, window: &[Vec<Row>]) -> Option<StepLog> {
        let (loss, gradient) = self.gradient(window);
        let optimizer = self.optimizer.as_mut()?;
        let norm = |values: &Vec<f32>| values.iter().map(|value| value * value).sum::<f32>().sqrt();
        let norms: Vec<f32> = gradient.iter().map(norm).collect();
        let clip_factor = optimizer.settings.clip_factor(norm(&norms));
        let learning_rate = optimizer.update(&mut self.model.parameters, &gradient, clip_factor);
        Some(StepLog { loss, learning_rate, norms, clip_factor })
    }

    /// The mean loss of all learned tokens of these batches.
    pub fn validate(&self, batches: &[Vec<Row>]) -> Validated {
        let (mut total, mut tokens) = (0.0, 0);
        for prediction in batches.iter().flatten().flat_map(predictions) {
            if let Some(label) = prediction.label {
                total += f64::from(self.model.loss(prediction.read, label));
                tokens += 1;
            }
        }
        let loss = total / tokens as f64;
        Validated { loss, perplexity: loss.exp(), tokens }
    }
}

/// What a position predicts.
struct Prediction<'a> {
    /// The tokens up to there.
    read: &'a [usize],
    /// The token behind it.
    next: usize,
    label: Option<usize>,
}

/// One prediction fewer than the row has tokens.
fn predictions(row: &Row) -> impl Iterator<Item = Prediction<'_>> {
    (1..row.tokens.len()).map(|next| Prediction {
        read: &row.tokens[..next],
        next: row.tokens[next],
        label: row.labels[next],
    })
}

/// How many predictions are learned.
fn learned(rows: &[Row]) -> usize {
    rows.iter().flat_map(predictions).filter(|prediction| prediction.label.is_some()).count()
}
