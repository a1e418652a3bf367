//! How exact what a subject hands over is: its dtype's rounding and its noise.

use super::TomographyError;
use lossproof_laws::{distance, error_model};
use lossproof_numerics::ErrorModel;
use lossproof_spec::{Dtype, GlobalBatch};
use lossproof_subject::{Checked, Collect, Observation, Subject, SubjectError, TensorSet};

/// How exact the numbers of a subject are on a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// Bound on the error of a parameter's gradient, relative to `max(‖g‖, Σ_t |w_t|·‖∇ℓ_t‖)` over that
    /// parameter.
    pub gradient: f64,
    /// Bound on the error of the reported loss, relative to `Σ_t |w_t|·max(ℓ_t, 1)`.
    pub loss: f64,
}

impl Precision {
    /// The precision of a model ([`ErrorModel`]) in a dtype; `noise` is what two identical calls differ by,
    /// relative to the gradient.
    #[must_use]
    pub fn new(model: &ErrorModel, dtype: Dtype, noise: f64) -> Self {
        Self { gradient: model.gradient_bound(dtype) + noise, loss: model.loss_bound(dtype) + noise }
    }

    /// The precision of a subject on a batch, by what the subject says of itself.
    #[must_use]
    pub fn of(subject: &dyn Subject, batch: &GlobalBatch, noise: f64) -> Self {
        let info = subject.info();
        let parameters = subject.parameters();
        Self::new(&error_model(&info, &parameters, batch), info.coarsest(&parameters), noise)
    }
}

/// What a subject computed for one batch, and how exactly.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The reported loss and counts.
    pub observation: Observation,
    /// The gradient.
    pub gradient: TensorSet,
    /// How exact they are: the dtype's rounding and the noise floor.
    pub precision: Precision,
}

impl Observed {
    /// Resets a subject and accumulates twice on one batch; what the two differ by is the noise floor.
    ///
    /// # Errors
    /// When the subject fails.
    pub fn of(subject: &mut dyn Subject, batch: &GlobalBatch) -> Result<Self, TomographyError> {
        let subject = &mut checked(subject)?;
        let mut once = || {
            subject.reset()?;
            accumulated(subject, batch)
        };
        let (observation, gradient) = once()?;
        let noise = distance(&once()?.1, &gradient);
        // A gradient that is not finite is infinitely far from itself: that is no noise, and recovery will
        // say so.
        let precision = Precision::of(subject, batch, if noise.is_finite() { noise } else { 0.0 });
        Ok(Self { observation, gradient, precision })
    }
}

/// A subject behind which the form of no answer needs to be doubted. Wrong numbers are let through: what they
/// mean for weights is said where the weights are recovered.
pub(super) fn checked<'a>(subject: &'a mut (dyn Subject + 'a)) -> Result<Checked<'a>, TomographyError> {
    Ok(Checked::new(subject).map_err(SubjectError::from)?.with_wrong_numbers())
}

/// The observation and the gradient of one accumulation.
pub(super) fn accumulated(
    subject: &mut dyn Subject,
    batch: &GlobalBatch,
) -> Result<(Observation, TensorSet), TomographyError> {
    let mut sink = Collect::default();
    let observation = subject.accumulate(batch, &mut sink)?;
    Ok((observation, sink.into_tensors()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tomography::toy::{self, Toy};
    use lossproof_subject::Breach;

    #[test]
    fn a_subject_that_panics_is_an_error_and_not_the_end() {
        let batch = toy::batch([5, 3, 4, 3], |_, _| false);
        let mut toy = Toy::new();
        toy.initial.clear();
        let error = Observed::of(&mut toy, &batch).unwrap_err();
        let breach = matches!(error, TomographyError::Subject(SubjectError::Breach(Breach::Panicked { .. })));
        assert!(breach, "{error:?}");
    }
}
