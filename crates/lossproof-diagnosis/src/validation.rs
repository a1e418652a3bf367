//! Validation: what is printed of a corpus, from the losses of its tokens.

use super::{examination::load, probes, states::States};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch};
use lossproof_subject::{Discard, Evaluated, Limits, Subject, SubjectError};

/// The losses of the supervised tokens of a corpus, by batch and sequence.
pub(super) type Corpus = [Vec<Vec<f64>>];

/// What a validation should print: the mean over all supervised tokens, and its exponential.
pub(super) fn honest(corpus: &Corpus) -> Evaluated {
    let losses: Vec<f64> = corpus.iter().flatten().flatten().copied().collect();
    let loss = losses.iter().sum::<f64>() / losses.len() as f64;
    Evaluated { loss, perplexity: loss.exp(), tokens: losses.len() }
}

/// A validation, and a loss of training before and after it.
pub(super) struct Validation {
    pub(super) batches: Vec<MicroBatch>,
    /// The loss of every prediction, by batch.
    pub(super) losses: Vec<Vec<f64>>,
    pub(super) printed: Evaluated,
    pub(super) before: f64,
    pub(super) after: f64,
}

/// A corpus of two batches, the second smaller; `None` where the subject has no validation or no token losses.
pub(super) fn validation(
    subject: &mut dyn Subject,
    states: &States,
    limits: &Limits,
) -> Result<Option<Validation>, SubjectError> {
    if subject.evaluation().is_none() || subject.token_losses().is_none() {
        return Ok(None);
    }
    let Some((corpus, training)) = probes::corpus(limits) else { return Ok(None) };
    load(subject, &states.general)?;
    if subject.configure(&LossSpec::token_mean()).is_err() {
        return Ok(None);
    }
    let train =
        |subject: &mut dyn Subject| Ok::<_, SubjectError>(subject.accumulate(&training, &mut Discard)?.loss);
    let before = train(subject)?;
    let mut losses = Vec::new();
    for batch in &corpus {
        if let Some(evaluator) = subject.token_losses() {
            losses.push(evaluator.evaluate(&GlobalBatch::of_micro_batch(batch.clone()))?);
        }
    }
    let Some(evaluation) = subject.evaluation() else { return Ok(None) };
    let printed = evaluation.validate(&corpus)?;
    let after = train(subject)?;
    Ok(Some(Validation { batches: corpus, losses, printed, before, after }))
}
