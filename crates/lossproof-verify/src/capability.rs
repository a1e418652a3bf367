//! What a verification asks of a subject beyond gradients.

use super::VerifyError;
use lossproof_subject::{LoadParameters, Subject, TokenLosses};

/// The capability to evaluate token losses.
pub(crate) fn evaluator(subject: &mut dyn Subject) -> Result<&mut dyn TokenLosses, VerifyError> {
    let name = subject.info().name;
    subject.token_losses().ok_or(VerifyError::Lacks { subject: name, capability: "evaluate token losses" })
}

/// The capability to take parameters.
pub(crate) fn loader(subject: &mut dyn Subject) -> Result<&mut dyn LoadParameters, VerifyError> {
    let name = subject.info().name;
    subject.parameter_loading().ok_or(VerifyError::Lacks { subject: name, capability: "load parameters" })
}
