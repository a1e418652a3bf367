//! A declared failure excuses itself and nothing else: drafted for a known fault it holds on the next run, is an
//! unexpected pass where the fault is mended, and hides no second defect of the same laws.

use lossproof_faults::{
    Fault,
    kit::{Hooks, wrap},
};
use lossproof_gpt2::Config;
use lossproof_laws::{
    Campaign, Law,
    expectations::{Draw, Expectations, FILE, Outcome, Replay, Standing, SubjectExpectations, judge},
};
use lossproof_spec::{Dtype, Optimizer, Rule};
use lossproof_subject::Subject;
use lossproof_tests::ours;
use std::fs;
use tempfile::TempDir;

type Defect = fn(Box<dyn Subject>) -> Box<dyn Subject>;

/// A fault that is known, laws that show it, and a defect that comes to be beside it.
const CASES: [(&str, &[&str], Defect); 5] = [
    // The known failure is an error, which most of its laws meet.
    ("all-ignored-nan", &["finite-differences", "ignored-batch"], |inner| scaled(inner, 2.0)),
    // The second defect is in parameters and on cases that the declared ones are not.
    ("tied-head-detached", &["finite-differences", "weight-tying"], long_sequences_twice),
    // Both are no matter of degree.
    ("overflow-advances-schedule", &["loss-scaling"], changed_when_skipped),
    // Both are in the same units.
    ("token-mean-not-divided", &["token-mean", "closed-form-gradient"], |inner| scaled(inner, 1.04)),
    // What is known is no multiple of what it should be.
    ("momentum-dampened-first", &["sgd"], momentum_by_half_again),
];

const SUBJECT: &str = "mine";

/// A gradient that is off by a factor.
fn scaled(inner: Box<dyn Subject>, factor: f64) -> Box<dyn Subject> {
    let hooks = Hooks { gradient: |factor: &mut f64, _, handed| handed.scale(*factor), ..Hooks::IDENTITY };
    wrap(inner, factor, hooks)
}

/// A batch with a sequence of more than nine tokens gives one parameter twice its gradient.
fn long_sequences_twice(inner: Box<dyn Subject>) -> Box<dyn Subject> {
    let hooks = Hooks {
        gradient: |(): &mut (), batch, handed| {
            if batch.sequences().any(|sequence| sequence.input_ids().len() > 9) {
                handed.tensor("h.0.mlp.c_proj.weight").scale(2.0);
            }
        },
        ..Hooks::IDENTITY
    };
    wrap(inner, (), hooks)
}

/// After a skipped step the parameters are others.
fn changed_when_skipped(inner: Box<dyn Subject>) -> Box<dyn Subject> {
    let hooks = Hooks {
        report: |skipped: &mut bool, _, report| *skipped = report.skipped,
        read: |skipped: &mut bool, inner, handed| {
            let steps = inner.optimizer_steps().expect("the reference takes steps");
            steps.read(handed)?;
            if *skipped {
                handed.scale(1.5);
            }
            Ok(())
        },
        ..Hooks::IDENTITY
    };
    wrap(inner, false, hooks)
}

/// Half again as much momentum as was asked for.
fn momentum_by_half_again(inner: Box<dyn Subject>) -> Box<dyn Subject> {
    let hooks = Hooks {
        start: |(): &mut (), inner, optimizer| {
            let rule = match optimizer.rule {
                Rule::Sgd { momentum, weight_decay } => Rule::Sgd { momentum: 1.5 * momentum, weight_decay },
                rule => rule,
            };
            let steps = inner.optimizer_steps().expect("the reference takes steps");
            steps.start(&Optimizer { rule, ..*optimizer })
        },
        ..Hooks::IDENTITY
    };
    wrap(inner, (), hooks)
}

fn honest() -> Box<dyn Subject> {
    ours(Config::Pico, Dtype::F64)
}

/// What a run of the package's test finds of one law.
fn outcome(
    folder: &TempDir,
    law: &'static Law,
    own: Option<&SubjectExpectations>,
    mut subject: Box<dyn Subject>,
) -> Outcome {
    let declared = own.and_then(|own| own.declared(law.id())).cloned();
    let campaign = Campaign {
        cases: 24,
        files: Some(folder.path().join("cases")),
        exhaustive: own.is_none(),
        declared: declared.clone(),
        ..Campaign::default()
    };
    let replay = declared.map(|declared| Replay::of(&campaign.replay(law, &mut *subject, &declared.case)));
    let report = campaign.run(law, &mut *subject).expect("case files are read");
    Outcome::of(&report, replay, Draw::Own)
}

/// The expectations that are drafted for a trainer, with a reason for each failure.
fn drafted(folder: &TempDir, laws: &[&'static Law], subject: &dyn Fn() -> Box<dyn Subject>) -> Expectations {
    let path = folder.path().join(FILE);
    let mut outcomes = Vec::new();
    for law in laws {
        outcomes.push((SUBJECT.to_owned(), outcome(folder, law, None, subject())));
    }
    Expectations::write(&path, &outcomes).expect("the folder is writable");
    let reasoned = fs::read_to_string(&path)
        .expect("it was drafted")
        .replace("TODO: why is this law broken?", "issue 7");
    fs::write(&path, reasoned).expect("the folder is writable");
    Expectations::read(&path).expect("every failure has a reason").expect("it was drafted")
}

#[test]
fn a_declared_failure_excuses_nothing_else() {
    for (fault, laws, defect) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let laws: Vec<&'static Law> = laws.iter().map(|law| Law::named(law).unwrap()).collect();
        let fault = Fault::named(fault).unwrap();
        let known = || fault.inject(honest());
        let expectations = drafted(&folder, &laws, &known);
        let own = expectations.of(SUBJECT).unwrap();
        let standings = |subject: &dyn Fn() -> Box<dyn Subject>| {
            let mut standings = Vec::new();
            for law in &laws {
                let judgement = judge(Some(own), &outcome(&folder, law, Some(own), subject()));
                standings.push((law.id(), judgement.standing, judgement.reason.unwrap_or_default()));
            }
            standings
        };
        let id = fault.bug.id;
        for (law, standing, reason) in standings(&known) {
            assert_eq!(standing, Standing::Green, "{id}, {law}: {reason}");
        }
        let found = standings(&|| defect(known()));
        assert!(found.iter().any(|(_, standing, _)| *standing == Standing::Red), "{id}: {found:#?}");
        for (law, standing, reason) in standings(&honest) {
            if own.declared(law).is_some() {
                assert_eq!(standing, Standing::Red, "{id}, {law}: {reason}");
                assert!(reason.contains("delete"), "{id}, {law}: {reason}");
            }
        }
    }
}
