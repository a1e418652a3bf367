//! What is seen of the trainers that faults are injected into: one claim, through a profile.

use crate::Profile;
use lossproof_cases::CaseFileError;
use lossproof_spec::LossSpec;
use lossproof_subject::{Count, Subject, Unsupported};
use std::error::Error;

/// Why a fault could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum KeyholeError {
    /// The trainer without the fault does not have the claim.
    #[error("the trainer without the fault does not have the claim")]
    Claim(#[from] Unsupported),
    /// Kept cases could not be read.
    #[error("the campaign cannot run")]
    Cases(#[from] CaseFileError),
    /// The trainer without the fault could not be made.
    #[error("the trainer without the fault could not be made")]
    Honest(#[source] Box<dyn Error + Send + Sync>),
}

/// How the trainers are seen that faults are injected into.
#[derive(Clone, Copy, Debug)]
pub struct Keyhole {
    /// How much of them is seen.
    pub profile: Profile,
    /// The loss that they claim, with neither label smoothing nor z-loss.
    pub claim: LossSpec,
    /// As many as they take.
    pub micro_batches: Count,
}

impl Keyhole {
    /// A trainer seen so.
    ///
    /// # Errors
    /// When it does not have the claim.
    pub fn of(&self, subject: Box<dyn Subject>) -> Result<Box<dyn Subject>, Unsupported> {
        self.profile.of(subject, &self.claim, self.micro_batches)
    }
}
