//! Which capabilities a subject has.

use crate::{ObjectiveKind, Subject};

/// Which capabilities a subject has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each capability")]
pub struct Offered {
    /// [`Subject::parameter_loading`].
    pub parameter_loading: bool,
    /// [`Subject::token_losses`].
    pub token_losses: bool,
    /// [`Subject::upstream_weights`].
    pub upstream_weights: bool,
    /// [`Subject::optimizer_steps`].
    pub optimizer_steps: bool,
    /// [`Subject::evaluation`].
    pub evaluation: bool,
    /// [`Subject::training_loop`].
    pub training_loop: bool,
    /// [`Subject::objectives`], of each [`ObjectiveKind::ALL`].
    pub objectives: [bool; 3],
}

impl Offered {
    /// What this subject offers now.
    pub fn by(subject: &mut dyn Subject) -> Self {
        Self {
            parameter_loading: subject.parameter_loading().is_some(),
            token_losses: subject.token_losses().is_some(),
            upstream_weights: subject.upstream_weights().is_some(),
            optimizer_steps: subject.optimizer_steps().is_some(),
            evaluation: subject.evaluation().is_some(),
            training_loop: subject.training_loop().is_some(),
            objectives: ObjectiveKind::ALL
                .map(|kind| subject.objectives().is_some_and(|objectives| objectives.learns(kind))),
        }
    }

    /// Whether it learns this.
    #[must_use]
    pub fn learns(&self, kind: ObjectiveKind) -> bool {
        ObjectiveKind::ALL.into_iter().zip(self.objectives).any(|(own, offered)| own == kind && offered)
    }

    /// Whether it learns anything but the next token.
    #[must_use]
    pub fn learns_otherwise(&self) -> bool {
        self.objectives.contains(&true)
    }
}
