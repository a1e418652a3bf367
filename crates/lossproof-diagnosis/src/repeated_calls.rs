//! What the second of two identical calls gives.

use crate::{
    half_digits::HalfDigits,
    measuring::{judged_call, load},
    named_values::{NamedValues, distance, global_norm},
    probe_parameters::ProbeParameters,
    probes::Probe,
};
use lossproof_cases::edit::{edit, given};
use lossproof_numerics::{norm, vector};
use lossproof_spec::{Dtype, GlobalBatch};
use lossproof_subject::{Subject, SubjectError};

/// What the second of two identical calls gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Repeated {
    /// The same gradient.
    Same,
    /// The same gradient, and another loss.
    OtherLoss,
    /// Twice the gradient.
    Twice,
    /// Another gradient, which depends on the batch of the first call.
    CarriedOver,
    /// Another gradient, of chance as far as can be told.
    Other {
        /// How far from the first, relative to that.
        by: f64,
    },
}

impl Repeated {
    /// Whether it can come from other masks of dropout. A mask of the rate p moves a gradient by about √p of its size:
    /// less than a hundredth would be a rate below one in ten thousand, which nobody trains with.
    pub(crate) fn may_be_dropout(self) -> bool {
        matches!(self, Self::Other { by } if by.is_nan() || by >= 0.01)
    }
}

/// What the second of two identical calls gives; `None` where the subject has no such semantics.
pub(crate) fn repeated(
    subject: &mut dyn Subject,
    parameters: &ProbeParameters,
    probe: &Probe,
    dtype: Dtype,
) -> Result<Option<Repeated>, SubjectError> {
    load(subject, parameters.general())?;
    if subject.configure(&probe.spec).is_err() {
        return Ok(None);
    }
    let (loss, one) = judged_call(subject, probe)?;
    let (again, other) = judged_call(subject, probe)?;
    // Relative to the largest tensor.
    let floor = one.values().map(|values| norm(values)).fold(0.0, f64::max);
    let half_digits = HalfDigits { floor, ..HalfDigits::of(dtype) };
    let is_multiple = |of: &NamedValues, factor: f64, found: &NamedValues| {
        of.len() == found.len()
            && of.iter().all(|(name, values)| {
                let mut multiple = values.clone();
                vector::scale(&mut multiple, factor);
                found.get(name).is_some_and(|twin| half_digits.same(twin, &multiple))
            })
    };
    if is_multiple(&one, 1.0, &other) {
        let same = HalfDigits::of(dtype).same_number(loss, again);
        return Ok(Some(if same { Repeated::Same } else { Repeated::OtherLoss }));
    }
    if is_multiple(&one, 2.0, &other) {
        return Ok(Some(Repeated::Twice));
    }
    // What is drawn comes again where its generator is reset and as much was drawn before; what is kept of another
    // batch is something else.
    let from_fresh = |subject: &mut dyn Subject, before: &[&Probe]| {
        subject.reset()?;
        for probe in before {
            judged_call(subject, probe)?;
        }
        judged_call(subject, probe).map(|(_, gradient)| gradient)
    };
    let repeats = is_multiple(&one, 1.0, &from_fresh(subject, &[])?);
    let otherwise = Probe { batch: with_other_tokens(&probe.batch, subject), ..probe.clone() };
    let kept = repeats && !is_multiple(&other, 1.0, &from_fresh(subject, &[&otherwise])?);
    let by = distance(&one, &other) / global_norm(&one);
    Ok(Some(if kept { Repeated::CarriedOver } else { Repeated::Other { by } }))
}

/// The batch with the next token of the vocabulary in place of each.
fn with_other_tokens(batch: &GlobalBatch, subject: &dyn Subject) -> GlobalBatch {
    let vocabulary = u32::try_from(subject.info().limits.vocabulary).unwrap_or(u32::MAX).max(1);
    let next = |token: u32| (token + 1) % vocabulary;
    batch.map_sequences(|sequence| {
        edit(sequence, |fields| {
            for (id, (target, label)) in
                fields.input_ids.iter_mut().zip(fields.targets.iter_mut().zip(&mut fields.labels))
            {
                (*id, *target) = (next(*id), next(*target));
                if given(*label) {
                    *label = i64::from(*target);
                }
            }
        })
    })
}
