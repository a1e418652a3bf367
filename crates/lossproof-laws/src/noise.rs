//! Whether a subject answers the same twice.

use crate::{
    Law, Report, Verdict, distance,
    second_look::Totals,
    trial::{Ended, Facts, Trial},
};
use lossproof_cases::Case;
use lossproof_spec::TokenWeights;
use lossproof_subject::{Checked, Device, Subject, SubjectError, TensorSet};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Reason, TestRunner},
};
use std::rc::Rc;

/// Calls after which answers that something earlier has changed are expected to repeat.
const CALLS: usize = 4;

/// Why two identical calls differ by more than rounding: what is kept from one to the next, where the answers
/// settle or grow by equal steps, and otherwise chance.
fn cause(subject: &mut dyn Subject, case: &Case, facts: &Facts) -> &'static str {
    const CHANCE: &str = "dropout?";
    let answers = (|| -> Result<Vec<Rc<TensorSet>>, Ended> {
        let mut trial = Trial::new(subject, case, facts)?;
        let spec = trial.spec(&[&case.batch])?;
        (0..CALLS).map(|_| Ok(trial.gradient(&spec, &case.batch)?.gradient)).collect()
    })();
    let Ok(answers) = answers else { return CHANCE };
    let bound = facts.model(&case.batch).gradient_bound(facts.coarsest());
    let same = |one: &TensorSet, other: &TensorSet| distance(one, other) <= bound;
    let step = |from: usize| {
        let mut step = Totals::default();
        step.add(1.0, &answers[from + 1]);
        step.add(-1.0, &answers[from]);
        step
    };
    let settles = answers[1..].windows(2).all(|pair| same(&pair[0], &pair[1]));
    // What is added to at every call grows, and rounds, by its own size.
    let grows = (1..CALLS - 1).all(|from| step(from).is_like(&step(0), CALLS as f64 * bound));
    if settles || grows { "state is kept from one call to the next: a gradient not cleared?" } else { CHANCE }
}

/// What identical calls differ by, relative to the gradient. A processor adds in an order of its own; a GPU may
/// add in one of chance, which comes out the same now and then.
pub(crate) fn noise(subject: &mut dyn Subject, case: &Case, facts: &Facts) -> Result<f64, SubjectError> {
    let calls = if facts.info.device == Device::Cpu { 2 } else { 2 * CALLS };
    let measured = (|| -> Result<f64, Ended> {
        let mut trial = Trial::new(subject, case, facts)?;
        let spec = trial.spec(&[&case.batch])?;
        let one = trial.gradient(&spec, &case.batch)?.gradient;
        let finite = |gradient: &TensorSet| {
            gradient.values().all(|tensor| (0..tensor.elements()).all(|at| tensor.get(at).is_finite()))
        };
        let one_is_finite = finite(&one);
        let mut noise = 0.0_f64;
        for _ in 1..calls {
            let other = trial.gradient(&spec, &case.batch)?.gradient;
            // A gradient that is no number twice is not noise; the law finds it and says so.
            if one_is_finite || finite(&other) {
                noise = noise.max(distance(&one, &other));
            }
        }
        Ok(noise)
    })();
    match measured {
        Ok(noise) => Ok(noise),
        Err(Ended::Failed(error)) => Err(error),
        // The law itself meets the same and says so.
        Err(Ended::Unsupported(_) | Ended::NotApplicable | Ended::OutsideLimits(_)) => Ok(0.0),
    }
}

/// Notes the noise of a case as that of the subject; `Some` is the report of a law that cannot be decided,
/// because there is more than rounding makes.
pub(crate) fn undecidable(
    law: &'static Law,
    subject: &mut Checked<'_>,
    case: &Case,
    facts: &mut Facts,
) -> Option<Report> {
    let report = match noise(subject, case, facts) {
        Ok(noise) if noise <= facts.model(&case.batch).gradient_bound(facts.coarsest()) => {
            facts.noise = noise;
            None
        }
        // Where calls differ because one leaves something to the next, these laws say so best.
        Ok(_) if ["determinism", "zero-grad"].contains(&law.id()) => None,
        Ok(noise) => {
            let cause = cause(subject, case, facts);
            let reason = format!("not deterministic: two identical calls differ by {noise:.1e} ({cause})");
            Some(Report::undecided(law, Verdict::Errored, reason, noise))
        }
        // A process that ended may be a fresh one by the next case, which does not meet the same.
        Err(SubjectError::Breach(breach)) if breach.is_of_a_process() => {
            Some(Report::undecided(law, Verdict::Errored, breach.to_string(), 0.0))
        }
        // The cases meet the same, and say so with a case that shows it.
        Err(SubjectError::Breach(_)) => None,
        Err(error) => Some(Report::undecided(law, Verdict::Errored, error.to_string(), 0.0)),
    };
    if report.is_none() {
        subject.take_breach();
    }
    report
}

/// Cases that are drawn to find one with a gradient.
const DRAWN: usize = 64;

/// A case with a supervised token and weights, for one without shows no noise: the first on a processor, and
/// elsewhere the largest of some, where most is added up.
pub(crate) fn case_for_noise(
    strategy: &impl Strategy<Value = Case>,
    runner: &mut TestRunner,
    device: Device,
) -> Result<Case, Reason> {
    let first = strategy.new_tree(runner)?.current();
    let mut found: Option<Case> = None;
    let mut case = first.clone();
    for _ in 0..DRAWN {
        let layout = case.batch.layout();
        if layout.supervised() > 0 && TokenWeights::new(&case.spec, &layout).is_ok() {
            if device == Device::Cpu {
                return Ok(case);
            }
            let larger = |known: &Case| layout.supervised() > known.batch.layout().supervised();
            if found.as_ref().is_none_or(larger) {
                found = Some(case);
            }
        }
        case = strategy.new_tree(runner)?.current();
    }
    Ok(found.unwrap_or(first))
}
