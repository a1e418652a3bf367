//! Panics as answers.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What a call returns.
///
/// # Errors
/// What its panic says, where it panics.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        // To drop what a panic carries may panic again.
        mem::forget(panic);
        text.unwrap_or_else(|| "without a message".to_owned())
    })
}
