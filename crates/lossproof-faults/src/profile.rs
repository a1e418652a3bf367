//! A trainer seen with less: what most trainers have to show is one loss and its gradient.

use crate::kit::{Capability, Hooks, wrap};
use lossproof_spec::LossSpec;
use lossproof_subject::{Claims, Count, Subject, Unsupported};
use std::{fmt, str::FromStr};

/// How much of a trainer is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The loss of a batch and its gradient.
    Bare,
    /// The same, at parameters that are loaded.
    Parameters,
    /// Loss, gradient and optimizer steps, at the trainer's own parameters.
    Steps,
    /// Everything that it has.
    Full,
}

impl Profile {
    /// All of them, from the least to the most.
    pub const ALL: [Self; 4] = [Self::Bare, Self::Parameters, Self::Steps, Self::Full];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Parameters => "parameters",
            Self::Steps => "steps",
            Self::Full => "full",
        }
    }

    const fn shows(self, capability: Capability) -> bool {
        match self {
            Self::Bare => false,
            Self::Parameters => matches!(capability, Capability::Parameters),
            Self::Steps => matches!(capability, Capability::OptimizerSteps),
            Self::Full => true,
        }
    }

    /// The subject seen through this profile, with one claim, and taking these numbers of micro-batches.
    ///
    /// What stands beside the loss in an observation is seen in full alone.
    ///
    /// # Errors
    /// When the subject does not have the semantics that are claimed.
    pub fn of(
        self,
        mut subject: Box<dyn Subject>,
        claim: &LossSpec,
        micro_batches: Count,
    ) -> Result<Box<dyn Subject>, Unsupported> {
        subject.configure(claim)?;
        let hooks = Hooks {
            info: |keyhole: &Keyhole, mut info| {
                info.claims = Claims::One(keyhole.claim);
                info.limits.micro_batches = keyhole.micro_batches;
                info
            },
            offers: |keyhole, capability, inside| inside && keyhole.profile.shows(capability),
            // Whatever is asked for is the claim, or the same inside the limits.
            configure: |keyhole, inner, _| inner.configure(&keyhole.claim),
            observation: |keyhole, _, observed| {
                if keyhole.profile != Self::Full {
                    observed.token_losses = None;
                    observed.supervised_tokens = None;
                }
            },
            report: |keyhole, _, report| {
                if keyhole.profile != Self::Full {
                    report.observation.token_losses = None;
                    report.observation.supervised_tokens = None;
                }
            },
            ..Hooks::IDENTITY
        };
        Ok(wrap(subject, Keyhole { profile: self, claim: *claim, micro_batches }, hooks))
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|profile| profile.name() == name);
        found.ok_or_else(|| format!("no such profile; there are {}", known()))
    }
}

/// What is seen of a trainer, and what it claims.
struct Keyhole {
    profile: Profile,
    claim: LossSpec,
    micro_batches: Count,
}
