//! What fits into memory.

use super::UsageError;
use lossproof_spec::GlobalBatch;
use lossproof_subject::ParameterInfo;

/// Numbers that a scan may hold: a gigabyte of them.
const MOST_NUMBERS: usize = 1 << 27;

/// Refuses what does not fit into memory.
///
/// # Errors
/// When the gradients of all predictions are too many numbers.
pub(super) fn check_size(parameters: &[ParameterInfo], batch: &GlobalBatch) -> Result<(), UsageError> {
    let elements = parameters.iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum();
    let predictions = batch.predictions().count();
    if predictions.saturating_mul(elements) > MOST_NUMBERS {
        return Err(UsageError::Size { predictions, elements });
    }
    Ok(())
}
