//! Calls of a subject, with the values of what it hands over.

use crate::{
    named_values::{NamedValues, named_values},
    probes::Probe,
};
use lossproof_spec::GlobalBatch;
use lossproof_subject::{Collect, Subject, SubjectError, TensorSet};

/// Brings a subject back to fresh, with these parameters.
///
/// # Errors
/// When it fails.
pub(crate) fn load(subject: &mut dyn Subject, parameters: &TensorSet) -> Result<(), SubjectError> {
    subject.reset()?;
    match subject.parameter_loading() {
        Some(loader) => loader.load(parameters),
        None => Ok(()),
    }
}

/// The loss that a subject reports of a batch, and its gradient.
///
/// # Errors
/// When it fails.
pub(crate) fn accumulate(
    subject: &mut dyn Subject,
    batch: &GlobalBatch,
) -> Result<(f64, NamedValues), SubjectError> {
    let mut sink = Collect::default();
    let loss = subject.accumulate(batch, &mut sink)?.loss;
    Ok((loss, named_values(&sink.into_tensors())))
}

/// The loss and the gradient of a subject under weights from above.
///
/// # Errors
/// When it fails.
pub(crate) fn accumulate_weighted(
    subject: &mut dyn Subject,
    batch: &GlobalBatch,
    weights: &[f64],
) -> Result<(f64, NamedValues), SubjectError> {
    let mut sink = Collect::default();
    let loss = match subject.upstream_weights() {
        Some(upstream) => upstream.backward(batch, weights, &mut sink)?,
        None => f64::NAN,
    };
    Ok((loss, named_values(&sink.into_tensors())))
}

/// The call of a probe that is judged.
pub(crate) fn judged_call(
    subject: &mut dyn Subject,
    probe: &Probe,
) -> Result<(f64, NamedValues), SubjectError> {
    match &probe.upstream {
        Some(weights) => accumulate_weighted(subject, &probe.batch, weights),
        None => accumulate(subject, &probe.batch),
    }
}
