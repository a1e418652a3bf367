//! A validation that a subject ran, and what training reported before and after it.

use crate::{measuring::load, probe_parameters::ProbeParameters, probes};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch};
use lossproof_subject::{Discard, Evaluated, Limits, Subject, SubjectError};

/// A validation, and a loss of training before and after it.
pub(crate) struct ValidationRun {
    pub(crate) batches: Vec<MicroBatch>,
    /// The loss of every prediction, by batch.
    pub(crate) losses: Vec<Vec<f64>>,
    pub(crate) printed: Evaluated,
    /// The loss that training reported before.
    pub(crate) before: f64,
    /// The loss that training reported of the same batch after.
    pub(crate) after: f64,
}

/// Runs a validation over a corpus of two batches, the second smaller; `None` where the subject has no
/// validation or no token losses.
///
/// # Errors
/// When the subject fails.
pub(crate) fn run_validation(
    subject: &mut dyn Subject,
    parameters: &ProbeParameters,
    limits: &Limits,
) -> Result<Option<ValidationRun>, SubjectError> {
    if subject.evaluation().is_none() || subject.token_losses().is_none() {
        return Ok(None);
    }
    let Some((corpus, training)) = probes::corpus(limits) else { return Ok(None) };
    load(subject, parameters.general())?;
    // A validation is a mean over tokens, whatever is trained on.
    let specs = [LossSpec::token_mean(), subject.info().claims.first()];
    if specs.iter().all(|spec| subject.configure(spec).is_err()) {
        return Ok(None);
    }
    let before = subject.accumulate(&training, &mut Discard)?.loss;
    let mut losses = Vec::new();
    for batch in &corpus {
        if let Some(evaluator) = subject.token_losses() {
            losses.push(evaluator.evaluate(&GlobalBatch::of_micro_batch(batch.clone()))?);
        }
    }
    let Some(evaluation) = subject.evaluation() else { return Ok(None) };
    let printed = evaluation.validate(&corpus)?;
    let after = subject.accumulate(&training, &mut Discard)?.loss;
    Ok(Some(ValidationRun { batches: corpus, losses, printed, before, after }))
}
