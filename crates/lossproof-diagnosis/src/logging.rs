//! Which loss a subject is seen to report, beside the log policy that its card declares.

use crate::{
    catalogue::Bug,
    inference::{LOG_POLICIES, logged_by, logged_by_one_of},
    scorer::Scorer,
};
use lossproof_subject::{LogPolicy, SubjectError};

/// Which loss a subject reports, as far as its probes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The log policy that its card declares.
    pub declared: LogPolicy,
    /// The policies by which every loss that was reported is right: several where no probe tells them apart,
    /// and none where a loss is right by none.
    pub found: Vec<LogPolicy>,
    /// Whether nothing is wrong but that the declared policy is not found, and another is.
    pub alone: bool,
}

impl Logging {
    /// What to change where another policy is found than the declared one.
    pub(crate) const REMEDY: &str =
        "declare on the card the policy that the trainer logs by, or log by the one that is declared";

    /// Reads the policies off what was seen. Whether anything else is wrong is left open.
    ///
    /// # Errors
    /// When the reference fails.
    pub(crate) fn seen(scorer: &mut Scorer<'_, '_>) -> Result<Self, SubjectError> {
        let declared = scorer.seen.log_policy;
        let mut found = Vec::new();
        for policy in LOG_POLICIES {
            if scorer.logs_by(policy)? {
                found.push(policy);
            }
        }
        Ok(Self { declared, found, alone: false })
    }

    /// The policy that is found, where it is another than the declared one.
    #[must_use]
    pub fn actual(&self) -> Option<LogPolicy> {
        if self.found.contains(&self.declared) { None } else { self.found.first().copied() }
    }

    /// The bug of the catalogue that it is to declare the one policy and log by the other, if it is there.
    pub(crate) fn bug(&self) -> Option<&'static Bug> {
        const MEANS: &Bug = Bug::recreated("log-loss-misscaled-under-ga");
        match (self.declared, self.actual()) {
            (LogPolicy::Window, Some(LogPolicy::MeanOfMicroBatches)) => Some(MEANS),
            _ => None,
        }
    }

    /// What is seen, where that is another policy than the declared one.
    pub(crate) fn anomaly(&self) -> Option<String> {
        self.actual()?;
        let (found, declared) = (logged_by_one_of(&self.found), logged_by(self.declared));
        Some(format!("every loss is {found}, and the card declares {declared}; hence not 4.7"))
    }

    /// What is seen of a subject that keeps to a policy other than the usual one.
    pub(crate) fn kept(&self) -> Option<String> {
        let kept = self.declared != LogPolicy::Window && self.found.contains(&self.declared);
        kept.then(|| format!("every loss is {}, as the card declares", logged_by(self.declared)))
    }
}
