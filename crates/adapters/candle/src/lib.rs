//! Two trainers written with candle 0.11.1 (<https://crates.io/crates/candle-core>), a GPT-2 and a Llama, each a
//! [`Subject`].
//!
//! [`Trainer`] and its models are what a user of candle writes, and know of no law. [`candle`] makes a subject of
//! them, which is done in one module. Each has one loss ([`Mean`]), takes one rank, steps by its own `AdamW`, and may
//! be given a [`Bug`] or one of candle's own [`Kernel`]s.

mod subject;
mod trainer;

pub use trainer::{
    AdamWConfig, Architecture, Bug, Example, IGNORED, Kernel, Logged, Mean, POSITIONS, Parameters, Precision,
    Settings, StepLog, Trainer, VOCABULARY, Validated,
};

use lossproof_subject::{Subject, SubjectError};

/// A trainer with these settings, at its own initial parameters.
///
/// # Errors
/// When candle cannot make the model.
pub fn candle(settings: Settings) -> Result<Box<dyn Subject>, SubjectError> {
    Ok(Box::new(subject::Candle(Trainer::new(settings).map_err(subject::failed)?)))
}
