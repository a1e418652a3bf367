//! The laws of groups 8 to 10 on our own loop, which is the first subject with one.

use lossproof_diagnosis::{Diagnostician, PatternDiagnosis};
use lossproof_faults::TrainingFault;
use lossproof_laws::{
    Campaign, Examination, Examiner, LAWS, Law, Likeness, RememberingExaminer, Report, Verdict,
};
use lossproof_loop::LoopSubject;
use lossproof_spec::{Dtype, LossSpec};
use lossproof_subject::Subject;
use lossproof_tests::{pattern_rows, training_loop::Under};
use rayon::prelude::*;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The laws that ask for a loop.
fn laws() -> impl Iterator<Item = &'static Law> {
    LAWS.iter().filter(|law| law.needs_training())
}

pub(super) fn reports(subject: &mut dyn Subject, cases: u32) -> Vec<Report> {
    let campaign = Campaign { cases, ..Campaign::default() };
    laws().map(|law| campaign.run(law, subject).expect("no files")).collect()
}

fn under_the_loop(under: Under, dtype: Dtype) -> LoopSubject {
    let smoothed = LossSpec { label_smoothing: 0.1, ..LossSpec::token_mean() };
    LoopSubject::new(under.trainer(dtype), smoothed).expect("the loss is claimed")
}

#[track_caller]
fn all_hold(under: Under, dtype: Dtype, cases: u32) {
    let mut subject = under_the_loop(under, dtype);
    for report in reports(&mut subject, cases) {
        assert!(report.verdict == Verdict::Pass, "{}: {report}", report.law.id());
    }
}

#[test]
fn our_loop_holds_on_the_reference() {
    all_hold(Under::Reference, Dtype::F64, 24);
}

#[test]
fn our_loop_holds_on_libtorch() {
    all_hold(Under::Libtorch, Dtype::F32, 24);
}

/// Each bug of a training, and what is said of a loop that has it.
fn diagnoses(under: Under, dtype: Dtype) -> Vec<(&'static TrainingFault, PatternDiagnosis)> {
    let faults: Vec<&TrainingFault> = TrainingFault::all().collect();
    let smoothed = LossSpec { label_smoothing: 0.1, ..LossSpec::token_mean() };
    let diagnosis = |fault: &&'static TrainingFault| {
        let mut subject = fault.inject(under.trainer(dtype), smoothed).expect("the loss is claimed");
        (*fault, PatternDiagnosis::of_training(&mut *subject).expect("it has a loop"))
    };
    faults.par_iter().map(diagnosis).collect()
}

#[track_caller]
fn all_killed_and_named(under: Under, dtype: Dtype) {
    for (fault, diagnosis) in diagnoses(under, dtype) {
        let id = fault.bug.id;
        assert!(diagnosis.law_against(fault.bug).is_some(), "{id} is not killed: {diagnosis}");
        let named: Vec<&str> = diagnosis.bugs.iter().map(|bug| bug.id).collect();
        assert!(named.contains(&id), "{id} is taken for {named:?}: {:?}", diagnosis.pattern);
        assert!(named.len() <= 2, "{id} is one of {named:?}");
    }
}

#[test]
fn every_bug_of_a_training_is_killed_and_named() {
    all_killed_and_named(Under::Reference, Dtype::F64);
}

#[test]
#[ignore = "two minutes: kept for when laws or bounds of a training change"]
fn every_bug_of_a_training_is_killed_and_named_on_libtorch_in_single_precision() {
    all_killed_and_named(Under::Libtorch, Dtype::F32);
}

/// What `crates/lossproof-diagnosis/src/patterns/training.rs` is to have.
#[test]
#[ignore = "prints source: for when laws of a training change"]
fn patterns() {
    let diagnoses = diagnoses(Under::Reference, Dtype::F64);
    println!("{}", pattern_rows(diagnoses.into_iter().map(|(fault, found)| (fault.bug.id, found.pattern))));
}

/// The failure of a law of a training says which plan it was and which known bugs fail in the same; where it is one of
/// an objective, or of a step, that is examined instead. A trainer is examined once.
#[test]
fn a_failing_law_of_a_training_tells_its_plan_and_the_bugs_that_fail_in_the_same() {
    let smoothed = LossSpec { label_smoothing: 0.1, ..LossSpec::token_mean() };
    let fault = TrainingFault::all().find(|fault| fault.bug.id == "clip-discarded").unwrap();
    let mut subject = fault.inject(Under::Reference.trainer(Dtype::F64), smoothed).unwrap();
    let examiner = Arc::new(Counting { inner: Diagnostician::default(), asked: AtomicUsize::new(0) });
    let remembering = Arc::new(RememberingExaminer::new(examiner.clone()));
    let campaign = Campaign { cases: 24, examiner: Some(remembering), ..Campaign::default() };
    for law in ["training-clipping", "frozen"] {
        let report = campaign.run(Law::named(law).unwrap(), &mut *subject).unwrap();
        let said = report.to_string();
        for line in [
            "\nplan: ",
            " micro-batches in an update; 2 epochs of ",
            "\nlooks like: the same laws fail as under one known bug of a training loop, \
             which proves no more than that:",
            "\n  clip-discarded: the factor of clipping is computed and not applied\n",
            "\n    training-clipping: parameters\n",
            "\nchange: if it is clip-discarded: multiply the gradient",
        ] {
            assert!(said.contains(line), "{line:?} is not in {said}");
        }
    }
    assert_eq!(examiner.asked.load(Ordering::Relaxed), 1);
}

/// Counts how often it is asked.
#[derive(Debug)]
struct Counting {
    inner: Diagnostician,
    asked: AtomicUsize,
}

impl Examiner for Counting {
    fn examine(&self, subject: &mut dyn Subject, examination: &Examination<'_>) -> Likeness {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.examine(subject, examination)
    }
}

#[test]
fn nothing_is_wrong_with_our_loop() {
    let diagnosis = PatternDiagnosis::of_training(&mut under_the_loop(Under::Libtorch, Dtype::F64));
    let diagnosis = diagnosis.expect("it has a loop");
    assert!(diagnosis.is_sound() && diagnosis.unseen.is_empty(), "{diagnosis}");
    // What is compared only where it fails would be left out wherever it holds, and patterns would be taken for
    // one another.
    assert_eq!(diagnosis.not_compared, []);
}
