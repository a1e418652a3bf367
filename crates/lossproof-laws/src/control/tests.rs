use super::*;
use crate::{
    Campaign, Report, Verdict,
    trial::{CaseOutcome, Computed, Ended, Trial},
};
use lossproof_spec::{Dtype, Dtypes, GlobalBatch, LossSpec};
use lossproof_subject::{
    Claims, Device, GradientSink, GradientView, Limits, LogPolicy, ModelInfo, Observation, ParameterInfo,
    Subject, SubjectError, SubjectInfo, Unsupported,
};
use std::sync::atomic::{AtomicU32, Ordering};

/// A subject with one parameter, whose loss is the number of sequences, and its gradient one as large.
struct Counting;

impl Subject for Counting {
    fn info(&self) -> SubjectInfo {
        SubjectInfo {
            name: "counting".to_owned(),
            version: "1".to_owned(),
            framework: "none".to_owned(),
            dtypes: Dtypes::all(Dtype::F64),
            device: Device::Cpu,
            claims: Claims::Any,
            limits: Limits::of_model(7, 32),
            log_policy: LogPolicy::Window,
            model: ModelInfo::default(),
        }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        vec![ParameterInfo::named("weight", &[2])]
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        Ok(())
    }

    fn configure(&mut self, _: &LossSpec) -> Result<(), Unsupported> {
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let sequences = batch.micro_batches().map(|micro_batch| micro_batch.sequences().len()).sum::<usize>();
        let loss = sequences as f64;
        gradients.receive("weight", &[2], GradientView::F64(&[loss, -loss]))?;
        Ok(Observation::new(loss, None))
    }
}

fn gradient(trial: &mut Trial<'_>) -> Result<Computed, Ended> {
    let batch = trial.case.batch.clone();
    trial.gradient(&LossSpec::sum(), &batch)
}

/// Two gradients of one batch are the same.
fn looks(trial: &mut Trial<'_>) -> CaseOutcome {
    let (one, other) = (gradient(trial)?, gradient(trial)?);
    trial.same("again", &trial.case.batch.clone(), &one, &other);
    Ok(true)
}

/// Asks for a gradient, and compares what has nothing to do with it.
fn looks_at_nothing(trial: &mut Trial<'_>) -> CaseOutcome {
    gradient(trial)?;
    trial.number("a number with itself", "loss", 1e-12, (2.0, 2.0), 2.0);
    Ok(true)
}

/// Asks for more gradients than are searched one by one, and compares two of them.
fn looks_at_two_of_many(trial: &mut Trial<'_>) -> CaseOutcome {
    let mut all = Vec::new();
    for _ in 0..2 * LONG {
        all.push(gradient(trial)?);
    }
    trial.same("again", &trial.case.batch.clone(), &all[2], &all[3]);
    Ok(true)
}

/// Asks for as many, and compares a number with itself.
fn looks_at_none_of_many(trial: &mut Trial<'_>) -> CaseOutcome {
    for _ in 0..2 * LONG {
        gradient(trial)?;
    }
    looks_at_nothing(trial)
}

/// The gradient of the parameter is not zero.
fn looks_whether_it_is_there(trial: &mut Trial<'_>) -> CaseOutcome {
    let size = gradient(trial)?.gradient["weight"].to_f64()[0].abs();
    trial.present("weight", size, || "there is none".to_owned());
    Ok(true)
}

/// Says so without having looked.
fn says_that_it_is_there(trial: &mut Trial<'_>) -> CaseOutcome {
    gradient(trial)?;
    trial.present("weight", 1.0, || "there is none".to_owned());
    Ok(true)
}

/// Cases of a campaign here.
const CASES: u32 = 3;

/// Holds for as many trials as a campaign has cases and never again, whatever the answers are.
fn holds_at_first(trial: &mut Trial<'_>) -> CaseOutcome {
    static TRIALS: AtomicU32 = AtomicU32::new(0);
    gradient(trial)?;
    // The case is tried in a dry run first.
    let found = if TRIALS.fetch_add(1, Ordering::Relaxed) > CASES { 3.0 } else { 2.0 };
    trial.number("how often it was tried", "loss", 1e-12, (found, 2.0), 2.0);
    Ok(true)
}

fn report(law: &'static Law) -> Report {
    let campaign = Campaign { cases: CASES, ..Campaign::default() };
    campaign.run(law, &mut Counting).expect("no case files are read")
}

#[test]
fn a_law_that_looks_passes_and_one_that_does_not_is_found_out() {
    static LAWS: [(Law, Verdict); 6] = [
        (crate::law("looks", &[], looks), Verdict::Pass),
        (crate::law("looks-at-nothing", &[], looks_at_nothing), Verdict::Unchecked),
        (crate::law("looks-at-two-of-many", &[], looks_at_two_of_many), Verdict::Pass),
        (crate::law("looks-at-none-of-many", &[], looks_at_none_of_many), Verdict::Unchecked),
        (crate::law("looks-whether-it-is-there", &[], looks_whether_it_is_there), Verdict::Pass),
        (crate::law("says-that-it-is-there", &[], says_that_it_is_there), Verdict::Unchecked),
    ];
    for (law, verdict) in &LAWS {
        let found = report(law);
        assert_eq!(found.verdict, *verdict, "{found}");
    }
}

#[test]
fn a_law_that_fails_on_its_own_tape_is_not_taken_for_one_that_looks() {
    static HOLDS_AT_FIRST: Law = crate::law("holds-at-first", &[], holds_at_first);
    let found_out = report(&HOLDS_AT_FIRST);
    assert_eq!(found_out.verdict, Verdict::Unchecked, "{found_out}");
}
