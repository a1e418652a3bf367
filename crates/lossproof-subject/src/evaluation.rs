//! What a trainer's validation prints, and the capability to print it.

use crate::SubjectError;
use lossproof_spec::MicroBatch;
use std::fmt;

/// The capability to evaluate a corpus: what a trainer's validation does between two optimizer steps.
pub trait Evaluation {
    /// Evaluates the batches in turn, without a gradient, and reports on all of them together. Plain
    /// cross-entropy over the supervised tokens, whatever loss spec is configured; parameters, optimizer and
    /// everything that training reports stay as they are.
    ///
    /// # Errors
    /// When a batch is outside the subject's [`Limits`](crate::Limits) or the trainer fails. A perplexity too
    /// large for f64 is infinite, not an error.
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError>;
}

/// What a validation prints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluated {
    /// Mean loss per supervised token in nats; NaN without one: a mean of nothing.
    pub loss: f64,
    /// `exp` of it, as the trainer computes it; NaN without a supervised token.
    pub perplexity: f64,
    /// Supervised tokens that were counted.
    pub tokens: usize,
}

impl fmt::Display for Evaluated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, perplexity, tokens } = self;
        write!(f, "a loss of {loss} and a perplexity of {perplexity} over {tokens} tokens")
    }
}
