//! Seconds, and what many of them come to.

use std::time::Instant;

/// Median and quartiles.
pub(crate) fn quartiles(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| times[quarter * (times.len() - 1) / 4])
}

/// Seconds that `work` takes.
pub(crate) fn seconds<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(f64, T), E> {
    let started = Instant::now();
    let done = work()?;
    Ok((started.elapsed().as_secs_f64(), done))
}
