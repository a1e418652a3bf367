//! rusty-gradients 0.2.0 (<https://crates.io/crates/rusty-gradients>), unmodified, as a [`Subject`].
//!
//! What runs is the release's own `GPTModel`, `cross_entropy_loss`, `Tensor::backward`, `Adam` and `SGD`,
//! called in the order of the release's training loop (`KnowledgeManager::train` of its program
//! `knowledge_manager`): forward, loss, backward, step, gradients to zero. That loop is in a program and
//! cannot be called.
//!
//! # What it claims
//! In its own words, translated from Russian:
//!
//! - The loss is "the mean value of the cross-entropy loss" over the positions of one sequence, and the
//!   logits are "`[batch_size, seq_len, vocab_size]`; in our case `batch_size` = 1" (documentation of
//!   `ops::selection::sparse_cross_entropy_op`): a micro-batch is one sequence.
//! - Gradients "accumulate" in `Tensor::grad` until they are set to zero (documentation of `Tensor::new` and
//!   `Optimizer::zero_grad`), so a window is several backward passes, whose means are added.
//! - All positions are supervised; there is no ignored label, no padding and no second rank.
//! - The model is a GPT (`models::gpt`), from which the release generates text token by token.
//! - `Adam` and `SGD` without decay, momentum and clipping. (Clipping is in `WasmGptTrainer` alone, at a
//!   threshold of 1 and with Adam's numbers built in, so that no optimizer can be declared to it.)
//!
//! # What the adapter adds
//! Initial parameters: the release draws its own without a seed, and a subject has to be repeatable. The
//! loss of a window is the sum of its micro-batches' losses, as its gradient is. Norms of gradients are
//! computed here, because the release reports none.
//!
//! # Names of parameters
//! The release numbers its parameters. The names here are those of the fields of its structures, and the
//! head's weight is transposed, with one row for each token.

mod parameters;
mod subject;

pub use rusty_gradients::models::gpt::GptConfig;

use lossproof::{Subject, SubjectError};

/// As small as shows everything: two blocks of two heads.
#[must_use]
pub fn pico() -> GptConfig {
    GptConfig { block_size: 8, vocab_size: 20, num_layers: 2, num_heads: 2, embedding_dim: 8 }
}

/// rusty-gradients with these sizes, in f32 on the processor.
///
/// # Errors
/// When its model has other parameters than this release has.
pub fn rusty_gradients(config: GptConfig) -> Result<Box<dyn Subject>, SubjectError> {
    Ok(Box::new(subject::RustyGradients::new(config)?))
}

/// As reports name it.
const NAME: &str = "rusty-gradients";

/// The error of a trainer that failed.
fn failed(error: impl std::fmt::Display) -> SubjectError {
    SubjectError::Failed { subject: NAME.to_owned(), message: error.to_string() }
}
