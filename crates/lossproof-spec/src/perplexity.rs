//! Perplexity, the only way it composes over batches.

use crate::CompensatedSum;

/// Perplexity of a corpus: `exp` of the mean loss per token, with losses and tokens summed over all batches
/// *before* the division. Never a mean of exponentials, nor the exponential of a mean of batch means.
///
/// ```
/// let mut perplexity = lossproof_spec::Perplexity::default();
/// perplexity.add(&[4.0_f64.ln(); 3])?; // three tokens at probability 1/4
/// perplexity.add(&[16.0_f64.ln()])?;   // one token at probability 1/16
/// // exp((3·ln 4 + ln 16)/4) = 2^2.5. The mean of the two batch means would give exp((ln 4 + ln 16)/2) = 8.
/// assert!((perplexity.value().unwrap() - 2.0_f64.powf(2.5)).abs() < 1e-12);
/// # Ok::<(), lossproof_spec::PerplexityError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Perplexity {
    loss: CompensatedSum,
    tokens: u64,
}

impl Perplexity {
    /// Adds the losses of a batch's supervised tokens, in nats. A batch without any changes nothing. A loss of `+inf`
    /// (a token of probability zero) is legitimate and makes the perplexity infinite.
    ///
    /// # Errors
    /// When a loss is NaN or negative; then nothing of the batch is added.
    pub fn add(&mut self, token_losses: &[f64]) -> Result<(), PerplexityError> {
        if let Some((index, &loss)) =
            token_losses.iter().enumerate().find(|(_, loss)| loss.is_nan() || **loss < 0.0)
        {
            return Err(PerplexityError { index, loss });
        }
        self.loss.extend(token_losses.iter().copied());
        self.tokens += token_losses.len() as u64;
        Ok(())
    }

    /// Tokens so far.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Mean loss per token in nats; `None` before the first token.
    #[must_use]
    pub fn mean_loss(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.loss.value() / self.tokens as f64)
    }

    /// The perplexity; infinite when it exceeds the range of f64, `None` before the first token.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.mean_loss().map(f64::exp)
    }
}

/// A token loss that is not the negative logarithm of a probability.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "token loss {loss} at index {index} is not the negative logarithm of a probability: check the logits for NaN"
)]
pub struct PerplexityError {
    /// Index in the batch that was added.
    pub index: usize,
    /// The loss.
    pub loss: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_depend_on_how_tokens_are_batched() {
        let losses: Vec<f64> = (0..97).map(|i| f64::from(i) * 0.1).collect();
        let mut whole = Perplexity::default();
        whole.add(&losses).unwrap();
        let mut split = Perplexity::default();
        for batch in losses.chunks(10) {
            split.add(batch).unwrap();
        }
        // Each of the two compensated sums is within 2u of the exact one; exp amplifies by the mean loss (4.8).
        let difference = (split.value().unwrap() / whole.value().unwrap() - 1.0).abs();
        assert!(difference <= 4.0 * f64::EPSILON * 4.8, "{difference}");
    }

    #[test]
    fn overflow_is_infinite_nothing_is_none_and_nan_is_refused_without_trace() {
        let mut perplexity = Perplexity::default();
        assert_eq!(perplexity.value(), None);
        assert!(perplexity.add(&[1.0, f64::NAN]).is_err());
        assert!(perplexity.add(&[-0.5]).is_err());
        assert_eq!(perplexity.tokens(), 0);
        perplexity.add(&[800.0]).unwrap();
        assert_eq!(perplexity.value(), Some(f64::INFINITY));
        perplexity.add(&[f64::INFINITY, 1.0]).unwrap();
        assert_eq!(perplexity.value(), Some(f64::INFINITY));
    }
}
