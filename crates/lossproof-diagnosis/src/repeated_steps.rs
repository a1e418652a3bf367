//! Optimizer steps once more, with no gradient asked for between them.
//!
//! An examination asks for a gradient before each step, and a trainer may be right because of that alone: where its
//! momentum lies in the memory of the gradient, say, and the question puts there what belongs there.

use crate::{
    half_digits::tolerance,
    measuring::load,
    named_values::{NamedValues, distance},
    optimizer_runs::{OptimizerRun, read},
    probe_parameters::ProbeParameters,
};
use lossproof_spec::Dtype;
use lossproof_subject::{StepReport, Subject, SubjectError};

/// Steps, and what they report, may differ by this many times as much as one step: they go on from each other, and a
/// run has up to six. A GPU, which adds in another order each time, differs by far less.
const STEPS: f64 = 8.0;

/// What came of the steps of a run, taken by themselves.
struct Repetition {
    reports: Vec<StepReport>,
    end: NamedValues,
}

/// In words, every run of several steps of which something else comes where they are taken by themselves.
pub(crate) fn differences(
    runs: &[OptimizerRun],
    dtype: Dtype,
    subject: &mut dyn Subject,
    parameters: &ProbeParameters,
) -> Vec<String> {
    let mut seen = Vec::new();
    for run in runs.iter().filter(|run| run.steps.len() > 1) {
        match difference(run, dtype, subject, parameters) {
            Ok(Some(what)) => {
                seen.push(format!("{}, with no gradient asked for between steps: {what}", run.name));
            }
            Ok(None) => {}
            Err(error) => {
                seen.push(format!("{}, with no gradient asked for between steps: {error}", run.name));
            }
        }
    }
    seen
}

fn difference(
    run: &OptimizerRun,
    dtype: Dtype,
    subject: &mut dyn Subject,
    parameters: &ProbeParameters,
) -> Result<Option<String>, SubjectError> {
    let Repetition { reports, end: again } = repeat(run, subject, parameters)?;
    let (Some((first, _)), Some((_, last))) = (run.steps.first(), run.steps.last()) else { return Ok(None) };
    let allowed = STEPS * tolerance(dtype);
    if let Some(end) = &last.values {
        let (apart, moved) = (distance(end, &again), distance(&first.before, end));
        // What is no number is close to nothing.
        if apart.is_nan() || apart > allowed * moved {
            return Ok(Some(elsewhere(run.steps.len(), apart, moved)));
        }
    }
    for (number, ((_, before), report)) in (1..).zip(run.steps.iter().zip(&reports)) {
        if let Some(skipped) = before.skipped.filter(|&skipped| skipped != report.skipped) {
            let what = if skipped { "is not skipped" } else { "is skipped" };
            return Ok(Some(format!("step {number} {what}")));
        }
        let Some(norm) = before.grad_norm else { continue };
        let other = report.grad_norm;
        // Of a step that is skipped it may be infinite or no number, as the order of the sum has it.
        let same =
            if norm.is_finite() { (norm - other).abs() <= allowed * norm.abs() } else { !other.is_finite() };
        if !same {
            return Ok(Some(format!("step {number} reports the gradient norm {other} instead of {norm}")));
        }
    }
    Ok(None)
}

fn elsewhere(steps: usize, apart: f64, moved: f64) -> String {
    if moved > 0.0 {
        let share = apart / moved;
        format!("{steps} steps end elsewhere, by {share:.1e} of what they move the parameters by")
    } else {
        format!("{steps} steps move the parameters, which they left where they were")
    }
}

/// Has a subject take the steps of a run from the same parameters.
fn repeat(
    run: &OptimizerRun,
    subject: &mut dyn Subject,
    parameters: &ProbeParameters,
) -> Result<Repetition, SubjectError> {
    load(subject, parameters.general())?;
    let name = subject.info().name;
    subject.configure(&run.spec).map_err(|refused| SubjectError::failed(&name, refused))?;
    let lacking = || SubjectError::failed(&name, "it takes no steps any more");
    let steps = subject.optimizer_steps().ok_or_else(lacking)?;
    steps.start(&run.optimizer).map_err(|refused| SubjectError::failed(&name, refused))?;
    let reports = run.batches.iter().map(|batch| steps.step(batch)).collect::<Result<_, _>>()?;
    Ok(Repetition { reports, end: read(subject)? })
}
