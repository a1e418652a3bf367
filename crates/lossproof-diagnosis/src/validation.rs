//! What a validation should print of a corpus, from the losses of its tokens.

use lossproof_subject::Evaluated;

/// The losses of the supervised tokens of a corpus, by batch and sequence.
pub(crate) type CorpusLosses = [Vec<Vec<f64>>];

/// What a validation should print: the mean over all supervised tokens, and its exponential.
pub(crate) fn honest(corpus: &CorpusLosses) -> Evaluated {
    let losses: Vec<f64> = corpus.iter().flatten().flatten().copied().collect();
    let loss = losses.iter().sum::<f64>() / losses.len() as f64;
    Evaluated { loss, perplexity: loss.exp(), tokens: losses.len() }
}
