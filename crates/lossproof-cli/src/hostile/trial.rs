//! What comes of one hostile trainer.

use crate::subjects;
use lossproof_cases::Recorded;
use lossproof_faults::hostile::{HeldTo, Hostile, Outcome};
use lossproof_gpt2::probe_initial;
use lossproof_laws::{Campaign, LAWS, Law, Report, Summary, Verdict, error_model, floor};
use lossproof_spec::{GlobalBatch, Sequence};
use lossproof_subject::{Device, Subject, Watchdog};
use lossproof_verify::{Directions, ThirdForward, Verification, verify};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

/// What Hugging Face's GPT-2 computed for gpt2-pico.
const PICO: &[u8] = include_bytes!("../../shipped/gpt2-pico.safetensors");

/// A hostile trainer, and what came of it.
pub(super) struct Trial {
    pub(super) hostile: &'static Hostile,
    pub(super) end: End,
    /// What it came of: a law, a statement, a part of what was not covered.
    pub(super) by: String,
    /// What is said of it.
    pub(super) said: String,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With one of the outcomes that a hostile trainer may have.
    Outcome(Outcome),
    /// Nothing came of it.
    Green,
    /// The trainer panicked, and that ended the judge.
    Uncaught,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome(outcome) => outcome.fmt(f),
            Self::Green => f.pad("GREEN"),
            Self::Uncaught => f.pad("UNCAUGHT"),
        }
    }
}

/// How a trial ended, by what, and what is said.
type CameOut = (End, String, String);

const RED: End = End::Outcome(Outcome::Red);
const ERRORED: End = End::Outcome(Outcome::Errored);
const NOT_COVERED: End = End::Outcome(Outcome::NotCovered);

impl Trial {
    /// In which way it is not what it must be, if it is not.
    pub(super) fn deviation(&self) -> Option<String> {
        let (must, says) = (self.hostile.must, self.hostile.says);
        // That it is convicted is more than that it is not covered; which of two ways it fails in hangs on
        // who asks first.
        let enough = match self.end {
            End::Outcome(Outcome::NotCovered) => must == Outcome::NotCovered,
            End::Outcome(Outcome::Red | Outcome::Errored) => true,
            End::Green | End::Uncaught => false,
        };
        if !enough {
            return Some(format!("must be {must}, and came out {}", self.end));
        }
        if self.said.is_empty() {
            return Some("nothing is said of it".to_owned());
        }
        let names = self.said.contains(says);
        (!names).then(|| format!("what is said does not name \"{says}\""))
    }
}

/// Holds a hostile trainer to what shows it. A call that takes longer than `patience` ends the trial.
pub(super) fn of(hostile: &'static Hostile, campaign: &Campaign, patience: Duration) -> Trial {
    let (send, receive) = channel();
    let hung = send.clone();
    let watchdog = Watchdog::new(move |_, breach| {
        // Nobody listens to the second.
        let _ = hung.send((ERRORED, "the watchdog".to_owned(), breach.to_string()));
    });
    let campaign = Campaign {
        cases: hostile.cases.unwrap_or(campaign.cases),
        watchdog: watchdog.with_limit(patience),
        ..campaign.clone()
    };
    // A thread of its own: one that hangs is left behind, and ends with the process.
    thread::spawn(move || {
        let came_out = catch_unwind(AssertUnwindSafe(|| held(hostile, &campaign)));
        let escaped = |_| (End::Uncaught, "a panic that nothing caught".to_owned(), "it panicked".to_owned());
        let _ = send.send(came_out.unwrap_or_else(escaped));
    });
    let (end, by, said) = receive.recv().expect("invariant: the thread or the watchdog sends");
    Trial { hostile, end, by, said }
}

fn held(hostile: &Hostile, campaign: &Campaign) -> CameOut {
    match hostile.held_to {
        HeldTo::Laws => by_laws(hostile, campaign, None),
        HeldTo::Only(ids) => by_laws(hostile, campaign, Some(ids)),
        HeldTo::Verification => by_verification(hostile, true),
        HeldTo::ItsOwnKind => by_verification(hostile, false),
    }
}

fn made(hostile: &Hostile) -> Box<dyn Subject> {
    hostile.make(subjects::ours(hostile.config, hostile.dtype, Device::Cpu).expect("the reference"))
}

/// Holds it to the floor under every green and to every law, or to a few laws only, up to the first that
/// convicts it.
fn by_laws(hostile: &Hostile, campaign: &Campaign, only: Option<&[&str]>) -> CameOut {
    let mut subject = made(hostile);
    if only.is_none()
        && let Err(what) = floor(campaign, &mut *subject)
    {
        return (RED, "the floor".to_owned(), what);
    }
    let mut reports: Vec<Report> = Vec::new();
    let tried = |law: &&Law| only.is_none_or(|ids| ids.contains(&law.id()));
    for law in LAWS.iter().filter(tried) {
        let report = campaign.run(law, &mut *subject).expect("invariant: no case files are read");
        if report.verdict == Verdict::Fail {
            return (RED, law.id().to_owned(), reason(&report));
        }
        reports.push(report);
    }
    let with = |verdict| reports.iter().find(move |report| report.verdict == verdict);
    if let Some(report) = with(Verdict::Errored) {
        return (ERRORED, report.law.id().to_owned(), reason(report));
    }
    if let Some(report) = with(Verdict::Unchecked) {
        return (NOT_COVERED, report.law.id().to_owned(), reason(report));
    }
    let size = campaign.size.within(&subject.info().limits);
    let summary = Summary::new(hostile.id, &size, reports.iter().map(|report| (report, report.verdict)));
    if summary.passed() == 0 {
        let what = with(Verdict::Unsupported).map_or_else(String::new, reason);
        return (NOT_COVERED, "every law".to_owned(), what);
    }
    // A green says what it does not certify; it is for that to name what the trainer does.
    let not_covered = &summary.not_covered;
    match not_covered.iter().find(|what| !hostile.says.is_empty() && what.contains(hostile.says)) {
        Some(what) => (NOT_COVERED, "the summary".to_owned(), what.clone()),
        None => (End::Green, format!("{} laws", summary.passed()), summary.certifies()),
    }
}

/// What a report says, in one line.
fn reason(report: &Report) -> String {
    let of_failure = report.failure.as_ref().and_then(|failure| {
        let statement = failure.violations.first().map(|violation| violation.statement.clone());
        failure.error.clone().or(statement)
    });
    of_failure.or_else(|| report.reason.clone()).unwrap_or_default()
}

/// Verifies it against libtorch and the recording, or against another of its own kind and nothing else.
fn by_verification(hostile: &Hostile, independent: bool) -> CameOut {
    let recorded = Recorded::parse(PICO).expect("the shipped recording");
    let theirs = || -> Box<dyn Subject> {
        let libtorch = || subjects::theirs(hostile.config, hostile.dtype, Device::Cpu).expect("libtorch");
        if independent { libtorch() } else { made(hostile) }
    };
    let [mut subject, mut other] = [made(hostile), theirs()];
    let [mut third_subject, mut third_other] = [made(hostile), theirs()];
    let batch = batch();
    let model_of = |subject: &dyn Subject, batch: &GlobalBatch| {
        error_model(&subject.info(), &subject.parameters(), batch)
    };
    let (model, recorded_model) = (model_of(&*subject, &batch), model_of(&*subject, &recorded.batch));
    let third = ThirdForward {
        recorded: &recorded,
        subjects: vec![&mut *third_subject, &mut *third_other],
        model: recorded_model,
    };
    let verification = Verification {
        trainer: &mut *subject,
        reference: &mut *other,
        third: independent.then_some(third),
        parameters: &probe_initial(hostile.config.shape(), 3),
        batch: &batch,
        model,
        directions: Directions::Random(1),
        seed: 5,
    };
    let report = match verify(verification, &mut |_, _, _| ()) {
        Err(error) => return (ERRORED, "the verification".to_owned(), error.to_string()),
        Ok(report) => report,
    };
    let with = |verdict| report.rows.iter().find(move |row| row.verdict == verdict);
    if let Some(row) = with(lossproof_verify::Verdict::Fail) {
        let blames: Vec<String> = report.blames.iter().map(ToString::to_string).collect();
        return (RED, row.text.clone(), blames.join("; "));
    }
    if let Some(row) = with(lossproof_verify::Verdict::Unchecked) {
        return (NOT_COVERED, row.text.clone(), row.unchecked.clone().unwrap_or_default());
    }
    (End::Green, format!("{} statements", report.rows.len()), "all hold".to_owned())
}

/// A batch of unequal sequences, micro-batches and ranks, every label given.
fn batch() -> GlobalBatch {
    let lengths: [&[&[usize]]; 2] = [&[&[12, 4], &[7]], &[&[9, 3, 11]]];
    let mut token = 0;
    let mut sequence = |&length: &usize| {
        let mut ids = Vec::new();
        for _ in 0..length {
            token = (token * 5 + 17) % 64;
            ids.push(token);
        }
        let labels = ids.iter().map(|&id| i64::from(id)).collect();
        Sequence::new(ids, labels).expect("invariant: a label for each token")
    };
    let mut ranks = Vec::new();
    for rank in lengths {
        ranks.push(rank.iter().map(|micro_batch| micro_batch.iter().map(&mut sequence).collect()).collect());
    }
    lossproof_cases::edit::assemble(ranks)
}
