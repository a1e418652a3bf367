//! A subject behind a check of everything it answers.

use super::VerifyError;
use lossproof_subject::{Breach, Checked, Subject};

/// Runs something on a subject whose answers are validated. The first breach of what is promised of every
/// subject is the error, whatever else came of it.
pub(crate) fn checked<T>(
    subject: &mut dyn Subject,
    run: impl FnOnce(&mut dyn Subject) -> Result<T, VerifyError>,
) -> Result<T, VerifyError> {
    let mut checked = Checked::new(subject).map_err(|breach| VerifyError::Breach {
        subject: "a subject".to_owned(),
        breach: Box::new(breach),
    })?;
    let answer = run(&mut checked);
    let named =
        |breach: Breach, name: String| VerifyError::Breach { subject: name, breach: Box::new(breach) };
    match checked.take_breach() {
        Some(breach) => Err(named(breach, checked.info().name)),
        None => answer,
    }
}
