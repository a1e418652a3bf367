//! Numbers as bytes, and back.

use crate::{Failure, RankError};

/// Numbers, eight bytes for each.
pub(crate) fn bytes(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The numbers of the bytes that a rank has brought.
///
/// # Errors
/// [`Failure::Garbage`] when there are not eight bytes for each.
pub(crate) fn numbers(rank: usize, bytes: &[u8]) -> Result<Vec<f64>, RankError> {
    let (numbers, rest) = bytes.as_chunks();
    if rest.is_empty() {
        return Ok(numbers.iter().copied().map(f64::from_le_bytes).collect());
    }
    let message = format!("{} bytes, where each number has {}", bytes.len(), size_of::<f64>());
    Err(RankError { rank, failure: Failure::Garbage { message } })
}
