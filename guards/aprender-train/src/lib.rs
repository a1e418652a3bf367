//! aprender-train 0.72.3 (<https://crates.io/crates/aprender-train>, the library `entrenar`), unmodified, as
//! a [`Subject`].
//!
//! What runs is the release's own `TransformerTrainer::train_batch`, once for each micro-batch of a window,
//! on batches of its own `LMBatch::from_sequences`. The gradient is what the trainer leaves in its
//! parameters.
//!
//! # What it claims
//! - The loss of a sequence is `−sum(log(softmax(logits)[target_token])) / num_tokens` (`CausalLMLoss`), and
//!   `train_batch` "returns average loss for the batch": the mean of the sequences' means.
//! - `accumulation_steps` are "accumulation steps for gradient accumulation" (`TransformerTrainConfig`),
//!   which "simulates larger batch sizes: effective batch size = `batch_size · gradient_accumulation_steps`"
//!   (`TrainConfig`): the mean over a window's micro-batches, as the loss that it logs is.
//! - Labels are the tokens, shifted by one; there is no ignored label. Sequences of different length may
//!   share a batch ("falls back to split layout", `LMBatch`): [`Rows::Ragged`].
//! - `AdamW` with `beta1`, `beta2` and `weight_decay` of `TransformerTrainConfig`, ε = 1e-8 beside the root
//!   of the uncorrected second moment (`optim::AdamW`), and clipping by the global norm (`max_grad_norm`).
//! - The head is the embedding (`Transformer::new`).
//!
//! # What the adapter adds
//! Initial parameters, which are the same for every trainer here. Norms of gradients and the factor of
//! clipping, because the release reports none; what it does is judged by the parameters after the step.
//! There is no ε beside the norm in its clipping; one of up to 1e-6 is taken, which is less than rounding
//! here.

mod model;
mod subject;

use lossproof::{Subject, SubjectError};

/// Sequences of one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All of one length.
    Even,
    /// Of any lengths: the release fills the shorter ones up.
    Ragged,
    /// One, whose labels may be others than its tokens (`LMBatch::single`).
    Single,
}

/// aprender-train with a Llama of this many blocks, in f32 on the processor.
///
/// # Errors
/// When the release has other parameters than those of a Llama.
pub fn aprender_train(blocks: usize, rows: Rows) -> Result<Box<dyn Subject>, SubjectError> {
    Ok(Box::new(subject::Aprender::new(blocks, rows)?))
}

/// As reports name it.
const NAME: &str = "aprender-train";

/// The error of a trainer that failed.
fn failed(error: impl std::fmt::Display) -> SubjectError {
    SubjectError::Failed { subject: NAME.to_owned(), message: error.to_string() }
}
