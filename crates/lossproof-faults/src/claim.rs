//! The losses that trainers with one loss claim here.

use lossproof_spec::LossSpec;
use std::{fmt, str::FromStr};

/// A loss with a name, without label smoothing and z-loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NamedClaim {
    /// Its name on the command line.
    pub name: &'static str,
    /// The loss.
    pub spec: LossSpec,
}

impl NamedClaim {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self { name: "sum", spec: LossSpec::sum() },
        Self { name: "token-mean", spec: LossSpec::token_mean() },
        Self { name: "sequence-mean", spec: LossSpec::sequence_mean() },
        Self { name: "batch-mean", spec: LossSpec::batch_mean() },
        Self { name: "naive-accumulated-mean", spec: LossSpec::naive_accumulated_mean() },
    ];
}

impl fmt::Display for NamedClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl FromStr for NamedClaim {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|claim| claim.name == name);
        found.ok_or_else(|| {
            let known = Self::ALL.map(|claim| claim.name).join(", ");
            format!("no such claim; there are {known}")
        })
    }
}
