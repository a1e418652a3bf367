//! What a subject's card says before any test: its limits, and the laws that it rules out.

use crate::stand::Stand;
use libtest_mimic::{Arguments, Trial};
use lossproof_laws::{Campaign, Law};
use lossproof_subject::{Checked, Limits, Subject};
use std::collections::BTreeMap;

/// What a subject's card says.
pub(crate) struct Card {
    pub(crate) limits: Limits,
    /// What is lacking for a law, by the law's id.
    lacking: BTreeMap<&'static str, String>,
}

impl Card {
    /// Asks once for all of these laws. `None` of a subject that cannot even be asked: each of its tests
    /// meets the same, and says so.
    pub(crate) fn of(stand: &Stand, campaign: &Campaign, laws: Vec<&'static Law>) -> Option<Self> {
        let card = stand.hold("the look at its card", campaign.clone(), move |campaign, subject| {
            let mut subject =
                Checked::watched(subject, campaign.watchdog.clone()).map_err(|breach| breach.to_string())?;
            let mut lacking = BTreeMap::new();
            for law in laws {
                if let Some(what) = campaign.unsupported(law, &mut subject) {
                    lacking.insert(law.id(), what);
                }
            }
            Ok(Self { limits: subject.info().limits, lacking })
        });
        card.ok()
    }

    /// What is lacking for a law.
    pub(crate) fn lacking(&self, law: &Law) -> Option<&str> {
        self.lacking.get(law.id()).map(String::as_str)
    }
}

/// Whether the arguments may select the test of this name, so that its subject's card has to be asked.
pub(crate) fn selects(arguments: &Arguments, name: &str) -> bool {
    // `--list` shows an ignored test with its reason before its name, and what it shows can be asked for: a
    // reason only the card knows.
    let by_reason = arguments.filter.as_ref().is_some_and(|filter| filter.starts_with('['));
    // Whether a test is ignored, only the card knows either.
    let either = Trial::test(name, || Ok(())).with_ignored_flag(true);
    by_reason || !arguments.is_filtered_out(&either)
}
