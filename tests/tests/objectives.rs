//! What is learnt beside the next token: the laws of it on both trainers, the bugs, and one trainer against the other.

use lossproof_diagnosis::PatternDiagnosis;
use lossproof_faults::{Keyhole, NamedClaim, ObjectiveFault, Profile};
use lossproof_gpt2::{Config, gpt2_initial};
use lossproof_laws::{Campaign, LAWS, Report, Verdict};
use lossproof_spec::{Dtype, IGNORE_INDEX, MicroBatch, Sequence};
use lossproof_subject::{Collect, Count, Device, LoopTrainer, ObjectiveBatch, Subject, SubjectError};
use lossproof_tests::pattern_rows;
use lossproof_torch::Gpt2Config;
use rayon::prelude::*;
use std::sync::Arc;

/// The trainers on a model with two blocks, by way of which a source is seen.
fn reference(dtype: Dtype) -> Box<dyn LoopTrainer> {
    let initial = Arc::new(gpt2_initial(Config::Nano.shape(), 0));
    lossproof_gpt2::loop_trainer(Config::Nano, dtype, Device::Cpu, initial).expect("the reference")
}

fn libtorch(dtype: Dtype) -> Box<dyn LoopTrainer> {
    let initial = gpt2_initial(Config::Nano.shape(), 0);
    lossproof_torch::loop_trainer(&Gpt2Config::NANO, dtype, Device::Cpu, Some(&initial)).expect("libtorch")
}

fn reports(subject: &mut dyn Subject) -> Vec<Report> {
    let campaign = Campaign { cases: 8, ..Campaign::default() };
    let laws = LAWS.iter().filter(|law| law.needs_objective());
    laws.map(|law| campaign.run(law, subject).expect("no files")).collect()
}

#[track_caller]
fn all_hold(subject: &mut dyn Subject) {
    for report in reports(subject) {
        assert!(report.verdict == Verdict::Pass, "{}: {report}", report.law.id());
    }
}

#[test]
fn both_trainers_learn_what_they_say() {
    all_hold(&mut *reference(Dtype::F64));
    all_hold(&mut *libtorch(Dtype::F32));
}

/// Whatever the one loss is that a trainer has, and however many micro-batches it takes: one micro-batch is a mean.
#[test]
fn a_trainer_with_one_loss_is_held_to_the_same() {
    for claim in ["sum", "naive-accumulated-mean"] {
        let claim: NamedClaim = claim.parse().expect("a claim");
        let keyhole = Keyhole { profile: Profile::Full, claim: claim.spec, micro_batches: Count::exactly(2) };
        all_hold(&mut *keyhole.of(reference(Dtype::F64)).expect("it is claimed"));
    }
}

/// Each bug, and what is said of a trainer that has it.
fn diagnoses(
    trainer: fn(Dtype) -> Box<dyn LoopTrainer>,
    dtype: Dtype,
) -> Vec<(&'static ObjectiveFault, PatternDiagnosis)> {
    let faults: Vec<&ObjectiveFault> = ObjectiveFault::all().collect();
    let diagnosis = |fault: &&'static ObjectiveFault| {
        let mut subject = fault.inject(trainer(dtype));
        (*fault, PatternDiagnosis::of_objectives(&mut *subject).expect("it learns them"))
    };
    faults.par_iter().map(diagnosis).collect()
}

#[track_caller]
fn all_killed_and_named(trainer: fn(Dtype) -> Box<dyn LoopTrainer>, dtype: Dtype) {
    for (fault, diagnosis) in diagnoses(trainer, dtype) {
        let id = fault.bug.id;
        assert!(diagnosis.law_against(fault.bug).is_some(), "{id} is not killed: {diagnosis}");
        let named: Vec<&str> = diagnosis.bugs.iter().map(|bug| bug.id).collect();
        assert!(named.contains(&id), "{id} is taken for {named:?}: {:?}", diagnosis.pattern);
        assert!(named.len() == 1 || id.starts_with("mlm-mean"), "{id} is one of {named:?}");
        assert!(diagnosis.exact, "{id}: {:?}", diagnosis.pattern);
    }
}

#[test]
fn every_bug_of_an_objective_is_killed_and_named() {
    all_killed_and_named(reference, Dtype::F64);
}

#[test]
#[ignore = "half a minute: kept for when laws or bounds of objectives change"]
fn every_bug_of_an_objective_is_killed_and_named_on_libtorch_in_single_precision() {
    all_killed_and_named(libtorch, Dtype::F32);
}

#[test]
fn nothing_is_wrong_with_an_honest_trainer() {
    let diagnosis = PatternDiagnosis::of_objectives(&mut *libtorch(Dtype::F64)).expect("it learns them");
    assert!(diagnosis.is_sound() && diagnosis.unseen.is_empty(), "{diagnosis}");
}

/// What `crates/lossproof-diagnosis/src/patterns/objectives.rs` is to have.
#[test]
#[ignore = "prints source: for when laws of objectives change"]
#[expect(clippy::print_stdout, reason = "it is pasted")]
fn patterns() {
    let diagnoses = diagnoses(reference, Dtype::F64);
    println!("{}", pattern_rows(diagnoses.into_iter().map(|(fault, found)| (fault.bug.id, found.pattern))));
}

/// A row as long as the model has positions, and a short one.
fn rows() -> MicroBatch {
    let positions = u32::try_from(Config::Nano.shape().positions).expect("few positions");
    let row = |length: u32, step: u32| {
        let tokens: Vec<u32> = (0..length).map(|position| position * step % 61).collect();
        let labels = tokens.iter().map(|&token| if token % 5 == 3 { IGNORE_INDEX } else { i64::from(token) });
        Sequence::new(tokens.clone(), labels.collect()).expect("a label for each token")
    };
    MicroBatch::new(vec![row(positions, 7), row(3, 11)]).expect("two rows")
}

fn batches() -> [ObjectiveBatch; 3] {
    let micro_batch = rows();
    let vocabulary = Config::Nano.shape().vocabulary;
    let supervised: usize = micro_batch.sequences().iter().map(Sequence::supervised).sum();
    let target = |token: usize| {
        let weights: Vec<f64> = (0..vocabulary).map(|c| 1.0 + ((c * 13 + token * 7) % 17) as f64).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    };
    let targets = (0..supervised).map(target).collect();
    let prefixes = vec![5, 1];
    [
        ObjectiveBatch::SoftTargets { micro_batch: micro_batch.clone(), targets },
        ObjectiveBatch::Masked { micro_batch: micro_batch.clone() },
        ObjectiveBatch::Prefix { micro_batch, prefixes },
    ]
}

/// dfdx and libtorch share nothing of this but what a batch is.
#[test]
fn both_trainers_learn_the_same() {
    for batch in batches() {
        let mut answers = Vec::new();
        for mut trainer in [reference(Dtype::F64), libtorch(Dtype::F64)] {
            let mut gradient = Collect::default();
            let observed =
                trainer.objectives().expect("both do").learn(&batch, &mut gradient).expect("a mean");
            assert_eq!(observed.supervised_tokens, Some(batch.scored()));
            answers.push((observed.loss, gradient.into_tensors()));
        }
        let [(ours, our_gradient), (theirs, their_gradient)] = &answers[..] else {
            unreachable!("two trainers")
        };
        assert!((ours - theirs).abs() <= 1e-13 * ours, "{}: {ours} and {theirs}", batch.kind());
        for (name, tensor) in our_gradient {
            let [own, other] = [tensor, &their_gradient[name]].map(lossproof_subject::Tensor::to_f64);
            let size = own.iter().map(|value| value * value).sum::<f64>().sqrt();
            let apart = own.iter().zip(&other).map(|(own, other)| (own - other).powi(2)).sum::<f64>().sqrt();
            assert!(apart <= 1e-12 * size.max(1e-3), "{}, {name}: {apart} of {size}", batch.kind());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let micro_batch = rows();
    let ignored =
        MicroBatch::new(vec![Sequence::new(vec![1, 2], vec![IGNORE_INDEX; 2]).expect("two")]).expect("one");
    let too_few = ObjectiveBatch::SoftTargets { micro_batch: micro_batch.clone(), targets: vec![vec![1.0]] };
    let no_prefix = ObjectiveBatch::Prefix { micro_batch, prefixes: vec![1] };
    let nothing = ObjectiveBatch::Masked { micro_batch: ignored };
    for mut trainer in [reference(Dtype::F64), libtorch(Dtype::F64)] {
        let mut refused = |batch: &ObjectiveBatch| -> SubjectError {
            let objectives = trainer.objectives().expect("both do");
            objectives.learn(batch, &mut Collect::default()).expect_err("it does not fit")
        };
        let (few, prefix) = (refused(&too_few).to_string(), refused(&no_prefix).to_string());
        assert!(few.starts_with("1 distributions, the subject takes exactly "), "{few}");
        assert!(prefix.starts_with("1 prefixes, the subject takes exactly 2"), "{prefix}");
        let nothing = refused(&nothing).to_string();
        assert!(nothing.contains("nothing is scored: masked language modelling of nothing"), "{nothing}");
    }
}
