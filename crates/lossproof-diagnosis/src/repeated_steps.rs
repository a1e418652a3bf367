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

/// A difference counts where the same steps, taken twice, end this many times closer to each other: a GPU adds in another
/// order each time.
const CLOSER: f64 = 8.0;

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
    let once = repeat(run, subject, parameters)?;
    let steady = Noise { tolerance: tolerance(dtype), twice: None };
    if steady.difference(run, &once).is_none() {
        return Ok(None);
    }
    // The question before the first time was another one, of which something may be left: that is no noise.
    let twice = (repeat(run, subject, parameters)?, repeat(run, subject, parameters)?);
    Ok(Noise { twice: Some(twice), ..steady }.difference(run, &once))
}

/// What the same steps differ by when they are taken twice.
struct Noise {
    /// What two numbers may differ by, relative to their scale.
    tolerance: f64,
    /// The same steps, where they were taken twice more.
    twice: Option<(Repetition, Repetition)>,
}

impl Noise {
    /// Whether two values are the same, with what they differ by and how the two further times differ in it. What is no
    /// number is close to nothing.
    fn covers(&self, apart: f64, scale: f64, of: impl Fn(&Repetition, &Repetition) -> f64) -> bool {
        let noise = self.twice.as_ref().map_or(0.0, |(one, other)| of(one, other));
        apart == 0.0 || apart <= self.tolerance * scale || apart <= CLOSER * noise
    }

    /// In what a repetition differs from the run, in words.
    fn difference(&self, run: &OptimizerRun, once: &Repetition) -> Option<String> {
        let (Some((first, _)), Some((_, last))) = (run.steps.first(), run.steps.last()) else { return None };
        if let Some(end) = &last.values {
            let (apart, moved) = (distance(end, &once.end), distance(&first.before, end));
            if !self.covers(apart, moved, |one, other| distance(&one.end, &other.end)) {
                return Some(elsewhere(run.steps.len(), apart, moved));
            }
        }
        for (at, ((_, before), report)) in run.steps.iter().zip(&once.reports).enumerate() {
            let number = at + 1;
            if let Some(skipped) = before.skipped.filter(|&skipped| skipped != report.skipped) {
                let what = if skipped { "is not skipped" } else { "is skipped" };
                return Some(format!("step {number} {what}"));
            }
            let Some(norm) = before.grad_norm else { continue };
            let other = report.grad_norm;
            // That of a step that is skipped may be no number.
            let same = norm.to_bits() == other.to_bits() || (norm.is_nan() && other.is_nan());
            let of = |one: &Repetition, other: &Repetition| {
                (one.reports[at].grad_norm - other.reports[at].grad_norm).abs()
            };
            // One number of a gradient at parameters that may have come out otherwise.
            if !same && !self.covers((norm - other).abs(), CLOSER * norm.abs(), of) {
                return Some(format!("step {number} reports the gradient norm {other} instead of {norm}"));
            }
        }
        None
    }
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
