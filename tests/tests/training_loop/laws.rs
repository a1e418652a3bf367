//! The laws of groups 8 to 10 on our own loop, which is the first subject with one.

use lossproof_laws::{Campaign, LAWS, Law, Report, Verdict};
use lossproof_loop::LoopSubject;
use lossproof_spec::{Dtype, LossSpec};
use lossproof_subject::Subject;
use lossproof_tests::training_loop::Under;

/// The laws that ask for a loop.
fn laws() -> impl Iterator<Item = &'static Law> {
    LAWS.iter().filter(|law| law.needs_training())
}

fn reports(subject: &mut dyn Subject, cases: u32) -> Vec<Report> {
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

#[test]
#[ignore = "prints patterns"]
fn patterns() {
    use lossproof_faults::TrainingFault;
    use rayon::prelude::*;
    let faults: Vec<_> = TrainingFault::all().collect();
    let lines: Vec<String> = faults
        .par_iter()
        .map(|fault| {
            let start = std::time::Instant::now();
            let smoothed = LossSpec { label_smoothing: 0.1, ..LossSpec::token_mean() };
            let mut subject = fault.inject(Under::Reference.trainer(Dtype::F64), smoothed).unwrap();
            let diagnosis = lossproof_diagnosis::TrainingDiagnosis::of(&mut *subject).unwrap();
            let pattern: Vec<String> =
                diagnosis.pattern.iter().map(|(law, kind)| format!("(\"{law}\", \"{kind}\")")).collect();
            format!(
                "(\"{}\", &[{}]), // {:.1}s {:?}",
                fault.bug.id,
                pattern.join(", "),
                start.elapsed().as_secs_f64(),
                diagnosis.unseen
            )
        })
        .collect();
    for line in lines {
        println!("{line}");
    }
}
