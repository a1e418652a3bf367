//! From a trainer to its trace.

use super::{Header, Plan, Segment, Step, Trace, TraceError, Trainer};
use lossproof_spec::GlobalBatch;
use lossproof_subject::{Checked, OptimizerSteps, Subject, SubjectError, SubjectInfo, Unsupported};
use std::borrow::Borrow;

/// Trains a subject from its initial parameters as planned, on the batches in order, one for each step, and keeps
/// what it reports. Batches beyond the plan are not looked at. The subject is asked
/// through [`Checked`].
///
/// # Errors
/// When the subject takes no optimizer steps, or not these; when it fails; when the batches end before the plan.
pub fn record(
    subject: &mut dyn Subject,
    plan: &Plan,
    batches: impl IntoIterator<Item = impl Borrow<GlobalBatch>>,
) -> Result<Trace, RecordError> {
    let mut checked = Checked::new(subject).map_err(SubjectError::from)?;
    let subject: &mut dyn Subject = &mut checked;
    subject.configure(&plan.loss)?;
    subject.reset()?;
    let info = subject.info();
    let parameters = subject.parameters();
    let dtype = info.coarsest(&parameters);
    let SubjectInfo { name, version, framework, device, .. } = info;
    let parameters = parameters.into_iter().map(|parameter| parameter.name).collect();
    let no_steps = Unsupported::new(&name, "optimizer steps");
    let trainer = subject.optimizer_steps().ok_or(no_steps)?;
    let mut batches = batches.into_iter();
    let mut steps = Vec::with_capacity(plan.steps());
    for &Segment { ref optimizer, steps: number } in &plan.segments {
        trainer.start(optimizer)?;
        for _ in 0..number {
            let step = steps.len() + 1;
            let batch = batches.next().ok_or(RecordError::Batches { step, steps: plan.steps() })?;
            let reported = take(trainer, step, batch.borrow());
            steps.push(reported.map_err(|source| RecordError::Step { step, source })?);
        }
    }
    let trainer = Trainer { name, version, framework };
    Ok(Trace::new(Header { trainer, device, dtype, plan: plan.clone(), parameters }, steps)?)
}

fn take(trainer: &mut dyn OptimizerSteps, step: usize, batch: &GlobalBatch) -> Result<Step, SubjectError> {
    let report = trainer.step(batch)?;
    Ok(Step {
        step,
        loss: report.observation.loss,
        supervised_tokens: report.observation.supervised_tokens,
        learning_rate: report.learning_rate,
        grad_norm: report.grad_norm,
        clip_factor: report.clip_factor,
        skipped: report.skipped,
        tensor_norms: report.tensor_norms,
    })
}

/// Why a trace could not be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The subject lacks what the plan asks for.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The subject could not be brought back to its initial parameters.
    #[error("the run could not begin")]
    Reset(#[from] SubjectError),
    /// A step failed.
    #[error("step {step} failed")]
    Step {
        /// The number of the step, from 1.
        step: usize,
        /// What the subject said.
        source: SubjectError,
    },
    /// There is no batch for a step.
    #[error("there is no batch for step {step} of {steps}: give one for each step, or plan fewer")]
    Batches {
        /// The number of the step, from 1.
        step: usize,
        /// How many steps are planned.
        steps: usize,
    },
    /// What was reported makes no trace.
    #[error("what the trainer reported makes no trace")]
    Trace(#[from] TraceError),
}
