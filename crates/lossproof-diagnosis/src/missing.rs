//! Gradients that are missing: exactly zero, of parameters that the loss depends on.

use crate::{
    measuring::{accumulate, load},
    probe_parameters::ProbeParameters,
    probes,
};
use lossproof_spec::Dtype;
use lossproof_subject::{Limits, ParameterInfo, Subject, SubjectError, Tensor, TensorSet, TensorValues};

/// How far every element of a parameter is moved, to see whether the loss depends on it: a little, since a
/// gradient says what is so near by.
const NUDGE: f64 = 0.0625;

/// What a loss moves by at least when it depends on a parameter, in units of rounding: it is the mean or the
/// sum of some token losses, and one that does not depend on the parameter moves by rounding at most.
const MOVED: f64 = 256.0;

/// By parameter, whether its gradient over a window is missing; `None` where it is zero, and the loss moves too little
/// near by to tell: a unit that is dead may be woken from further away. Nothing where the subject takes no parameters,
/// or no window, so that nobody can see what the loss depends on.
///
/// # Errors
/// When the subject fails.
pub(crate) fn missing(
    subject: &mut dyn Subject,
    parameters: &ProbeParameters,
    infos: &[ParameterInfo],
    limits: &Limits,
    dtype: Dtype,
) -> Result<Vec<Option<bool>>, SubjectError> {
    let windows = probes::windows(limits);
    let Some(batch) = windows.first().filter(|_| subject.parameter_loading().is_some()) else {
        return Ok(Vec::new());
    };
    let claim = subject.info().claims.first();
    if subject.configure(&claim).is_err() {
        return Ok(Vec::new());
    }
    load(subject, parameters.general())?;
    let (loss, gradient) = accumulate(subject, batch)?;
    let least = MOVED * dtype.unit_roundoff() * loss.abs().max(1.0);
    let mut missing = Vec::new();
    for info in infos {
        let values = gradient.get(&info.name).filter(|values| !values.is_empty());
        let zero = values.is_some_and(|values| values.iter().all(|value| value.abs() <= 0.0));
        let nudged = if zero { nudged(parameters.general(), &info.name) } else { None };
        let Some(nudged) = nudged else {
            missing.push(Some(false));
            continue;
        };
        load(subject, &nudged)?;
        let (moved, _) = accumulate(subject, batch)?;
        missing.push((moved.is_finite() && (moved - loss).abs() > least).then_some(true));
    }
    Ok(missing)
}

/// The parameters with one of them moved, its elements up and down by turns so that no sum of them stays.
fn nudged(parameters: &TensorSet, name: &str) -> Option<TensorSet> {
    let tensor = parameters.get(name)?;
    let mut values = tensor.to_f64();
    for (index, value) in values.iter_mut().enumerate() {
        *value += if index % 3 == 1 { -NUDGE } else { NUDGE };
    }
    let moved = Tensor::new(tensor.shape().to_vec(), TensorValues::F64(values)).ok()?;
    let mut nudged = parameters.clone();
    nudged.insert(name.to_owned(), moved);
    Some(nudged)
}
