//! hermes-llm 1.3.2 (<https://crates.io/crates/hermes-llm>), unmodified, as a [`Subject`].
//!
//! The model is the release's `GPT`, its loss the release's `cross_entropy_loss`, and gradients are those of
//! candle's `backward`, which the release's `Trainer` calls. Steps are taken in one of two ways ([`Steps`]).
//!
//! # What it claims
//! - The loss is candle's `cross_entropy` over all positions of a micro-batch: a mean over tokens, all of
//!   them supervised and all rows of one length (`model::cross_entropy_loss`, `data::Dataset::get_batch`).
//! - `effective_batch = batch_size × grad_accum × num_gpus` (README): a step is one on all micro-batches of
//!   a window, whose logged loss is the mean of theirs (`Trainer::train_epoch`). Of equal micro-batches that
//!   is the mean over all tokens.
//! - `AdamW` with a decay of every parameter, and ε = 1e-8 (`Trainer::new`).
//! - `grad_clip` is the "gradient clipping max norm" (`TrainingConfig`; README: "gradient clipping").
//! - `freeze_layers(n)`: "freeze the first N layers (embeddings count as layer 0); frozen layers will not be
//!   updated during training" ([`Steps::Frozen`]).
//!
//! - `--checkpoint`: "continue training from a pre-trained checkpoint" (README). This is how a training that
//!   was stopped is resumed: the same training, in a new process, from that checkpoint.
//!
//! Whole trainings are the release's `Trainer::train_epoch` in every way of taking steps, an epoch after the
//! other and each over one text, as its `Trainer::train` runs them. Its loader shuffles without a seed where
//! it is asked to; here it is not, so that rows come in the order of the text. There is no schedule:
//! `get_lr_with_warmup` is called by nobody.
//!
//! Dropout is off, by the release's own setting. The README says that embedding and head are tied; the model
//! has two matrices and counts both among its parameters, so the card has two, too. Ranks need NCCL: without
//! it a communicator cannot be made, so there is one rank.
//!
//! # What the adapter adds
//! Initial parameters, because the release draws its own without a seed. Norms of gradients and the factor of
//! clipping, because the release reports none; what it does is judged by the parameters after the step.
//! `evaluate` returns a loss alone: its `exp` and the count of the tokens that its loader hands over are
//! added. There is no ε beside the norm in its clipping; one of up to 1e-6 is taken, which is less than
//! rounding here.

mod model;
mod shipped;
mod subject;
mod training;
mod written_out;

use lossproof::{Subject, SubjectError};

/// How steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// By the release's `Trainer::train_epoch`, one epoch of one window. Its loader cuts rows out of one
    /// text, each one token further than the one before, so that only a window of one row can be chosen
    /// freely.
    Shipped,
    /// The same after `Trainer::freeze_layers(1)`.
    Frozen,
    /// By the lines of `Trainer::train_epoch_distributed`, written out here for windows of any rows. On
    /// windows that the release's loader can cut, they leave the same parameters behind to the bit, which a
    /// test holds.
    WrittenOut,
}

/// hermes-llm with a model of two blocks, in f32 on the processor.
///
/// # Errors
/// When candle cannot make the model, or there is no folder for checkpoints.
pub fn hermes_llm(steps: Steps) -> Result<Box<dyn Subject>, SubjectError> {
    Ok(Box::new(subject::Hermes::new(steps)?))
}

/// As reports name it.
const NAME: &str = "hermes-llm";

/// The error of a trainer that failed.
fn failed(error: impl std::fmt::Display) -> SubjectError {
    SubjectError::Failed { subject: NAME.to_owned(), message: error.to_string() }
}
