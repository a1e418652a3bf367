//! The test of one law on one subject.

use crate::{
    outcome::{Decided, Outcomes},
    stand::Stand,
};
use libtest_mimic::{Completion, Failed};
use lossproof_laws::{
    Campaign, LAWS, Law, Report, Verdict,
    expectations::{Draw, Outcome, Replay, Standing, SubjectExpectations, judge},
};
use std::error::Error;

/// The test of one law on one subject.
pub(crate) struct LawTest {
    pub(crate) law: &'static Law,
    pub(crate) stand: Stand,
    pub(crate) campaign: Campaign,
    /// What `lossproof.toml` says of the subject, if it lists it.
    pub(crate) expected: Option<SubjectExpectations>,
    pub(crate) draw: Draw,
    /// The last line of a failure.
    pub(crate) rerun: String,
    pub(crate) outcomes: Outcomes,
}

impl LawTest {
    pub(crate) fn run(self) -> Result<Completion, Failed> {
        let Self { law, stand, campaign, expected, draw, rerun, outcomes } = self;
        let declared = expected.as_ref().and_then(|own| own.declared(law.id())).cloned();
        let campaign = Campaign { declared: declared.clone(), ..campaign };
        let held = stand.hold(law.id(), campaign, move |campaign, subject| {
            let replay = declared.map(|declared| Replay::of(&campaign.replay(law, subject, &declared.case)));
            let report = campaign.run(law, subject).map_err(|error| chain(&error))?;
            Ok((subject.info(), report, replay))
        });
        let (info, report, replay) = match held {
            Ok(found) => found,
            Err(what) => {
                outcomes.add(Decided::errored(stand.name, law, what.clone()));
                return Err(format!("{what}\n{rerun}").into());
            }
        };
        let outcome = Outcome::of(&report, replay, draw);
        let judged = judge(expected.as_ref(), &outcome);
        outcomes.add(Decided {
            subject: stand.name,
            report: report.clone(),
            verdict: judged.verdict,
            outcome: Some(outcome),
            excused: judged.standing == Standing::Ignored && expected.is_some_and(|own| excuses(&own, law)),
        });
        if let Some(warning) = &judged.warning {
            eprintln!("warning: {}: {warning}", law.id());
        }
        match judged.standing {
            Standing::Green => Ok(Completion::Completed),
            Standing::Ignored => {
                let reason = judged.reason.unwrap_or_else(|| "not decided".to_owned());
                Ok(Completion::ignored_with(format!("{}: {reason}", judged.verdict)))
            }
            Standing::Red => {
                let reason = judged
                    .reason
                    .map_or_else(String::new, |reason| format!("{}: {reason}\n", judged.verdict));
                let Report { verdict, .. } = &report;
                let found = if *verdict == Verdict::Pass { String::new() } else { format!("{report}\n") };
                Err(format!(
                    "{} {} ({}, {})\n{reason}{found}{rerun}",
                    info.name, info.version, info.dtypes, info.device
                )
                .into())
            }
        }
    }
}

/// Whether the file consents to this law being undecided, while it demands that another decides.
fn excuses(expected: &SubjectExpectations, law: &Law) -> bool {
    let demands = |law: &Law| expected.pins(law.id()) || expected.declared(law.id()).is_some();
    !demands(law) && LAWS.iter().any(demands)
}

/// An error with what it is due to.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
