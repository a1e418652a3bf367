//! Whether a subject answers the same twice.

use crate::{
    distance,
    trial::{Ended, Facts, Trial},
};
use lossproof_cases::Case;
use lossproof_spec::TokenWeights;
use lossproof_subject::{Subject, SubjectError, Tensor};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Reason, TestRunner},
};

/// What two identical calls differ by, relative to the gradient.
pub(crate) fn noise(subject: &mut dyn Subject, case: &Case, facts: &Facts) -> Result<f64, SubjectError> {
    let measured = (|| -> Result<f64, Ended> {
        let mut trial = Trial::new(subject, case, facts)?;
        let spec = trial.spec(&[&case.batch])?;
        let (one, other) = (trial.gradient(&spec, &case.batch)?, trial.gradient(&spec, &case.batch)?);
        // A gradient that is no number twice is not noise; the law finds it and says so.
        let finite = |t: &Tensor| (0..t.elements()).all(|index| t.get(index).is_finite());
        let broken = [&one, &other].iter().all(|computed| !computed.gradient.values().all(finite));
        Ok(if broken { 0.0 } else { distance(&one.gradient, &other.gradient) })
    })();
    match measured {
        Ok(noise) => Ok(noise),
        Err(Ended::Failed(error)) => Err(error),
        // The law itself meets the same and says so.
        Err(Ended::Unsupported(_) | Ended::NotApplicable) => Ok(0.0),
    }
}

/// Cases that are drawn to find one with a gradient.
const DRAWN: usize = 64;

/// The first case with a supervised token and weights: one without shows no noise.
pub(crate) fn first_to_compute(
    strategy: &impl Strategy<Value = Case>,
    runner: &mut TestRunner,
) -> Result<Case, Reason> {
    let first = strategy.new_tree(runner)?.current();
    let mut case = first.clone();
    for _ in 0..DRAWN {
        let layout = case.batch.layout();
        if layout.supervised() > 0 && TokenWeights::new(&case.spec, &layout).is_ok() {
            return Ok(case);
        }
        case = strategy.new_tree(runner)?.current();
    }
    Ok(first)
}
