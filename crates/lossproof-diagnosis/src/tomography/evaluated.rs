//! What a token weighs in a sequence that cannot be cut off, by token losses that the subject evaluates.

use super::{
    Precision, TomographyError,
    calibration::{Factor, VOCABULARY, relabelled},
    decimal_places::half_of_a_place,
};
use lossproof_cases::edit::alone;
use lossproof_spec::{LossSpec, Sequence};
use lossproof_subject::{Discard, Subject};

/// What a label at one position changes in the reported loss of a sequence alone, over what it changes in its
/// token loss, for the two labels with the most different token losses.
///
/// # Errors
/// When the subject fails or does not evaluate these token losses, or the change is not told from rounding.
pub(super) fn evaluated_share(
    subject: &mut dyn Subject,
    spec: &LossSpec,
    (sequence, position): (&Sequence, usize),
    precision: &Precision,
) -> Result<Factor, TomographyError> {
    let info = subject.info();
    let lacks = |capability| TomographyError::Lacks {
        subject: info.name.clone(),
        capability,
        remedy: "its sequences have one length, so that what a token weighs alone shows in token losses only",
    };
    if spec.label_smoothing > 0.0 || spec.z_loss > 0.0 {
        return Err(lacks("evaluate token losses with label smoothing or z-loss in them"));
    }
    // Evaluated and reported, by label.
    let mut probes: Vec<(f64, f64)> = Vec::new();
    for label in 0..info.limits.vocabulary.min(VOCABULARY) {
        let label = u32::try_from(label).unwrap_or(u32::MAX);
        let Some(probe) = relabelled(sequence, position, label) else { continue };
        let batch = alone(&probe, &info.limits);
        let reported = subject.accumulate(&batch, &mut Discard)?.loss;
        let evaluator = subject.token_losses().ok_or_else(|| lacks("evaluate token losses"))?;
        let losses = evaluator.evaluate(&batch)?;
        probes.push((losses.get(position).copied().unwrap_or(f64::NAN), reported));
    }
    let reported: Vec<f64> = probes.iter().map(|(_, reported)| *reported).collect();
    let places = half_of_a_place(&reported, precision.loss);
    probes.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (Some(least), Some(greatest)) = (probes.first(), probes.last()) else {
        return Err(lacks("take another label"));
    };
    let (evaluated, reported) = (greatest.0 - least.0, greatest.1 - least.1);
    let share = reported / evaluated;
    // A loss errs relative to Σ_t |w_t|·max(ℓ_t, 1), and every token of the sequence has this share.
    let floor = share.abs() * sequence.len() as f64;
    let of_reported = least.1.max(floor) + greatest.1.max(floor);
    let of_evaluated = share.abs() * (least.0.max(1.0) + greatest.0.max(1.0));
    let relative = (precision.loss * (of_reported + of_evaluated) + 2.0 * places) / reported.abs();
    if share.is_finite() && relative < 0.5 {
        return Ok(Factor { value: share, error: relative });
    }
    let problem = "what a label changes in its reported loss is not told from rounding".to_owned();
    Err(TomographyError::Calibration { subject: info.name, problem })
}
