//! The norm in front of the head, found by the roles of its parameters.

use lossproof_spec::Role;
use lossproof_subject::ParameterInfo;

/// Names of the parameters of the norm in front of the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalNorm {
    /// What normalised activations are multiplied by.
    pub gain: String,
    /// What is added to them then.
    pub bias: String,
}

impl FinalNorm {
    /// Those with the roles of one, if there is one of each.
    #[must_use]
    pub fn of(declared: &[ParameterInfo]) -> Option<Self> {
        let only = |role: Role| -> Option<String> {
            let mut all = declared.iter().filter(move |parameter| parameter.role == role);
            let first = all.next()?;
            all.next().is_none().then(|| first.name.clone())
        };
        Some(Self { gain: only(Role::FinalNormGain)?, bias: only(Role::FinalNormBias)? })
    }
}
