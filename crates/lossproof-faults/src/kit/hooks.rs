//! Where a wrapper can change what goes into a subject and what comes out of it.

use super::HandedOver;
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Optimizer};
use lossproof_subject::{
    Evaluated, LoadParameters, ObjectiveBatch, Objectives, Observation, OptimizerSteps, ParameterInfo,
    StepReport, Subject, SubjectError, SubjectInfo, TensorSet, TokenLosses, Unsupported, UpstreamWeights,
};

/// What a subject can do beyond a forward and backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// [`Subject::parameter_loading`].
    Parameters,
    /// [`Subject::token_losses`].
    TokenLosses,
    /// [`Subject::upstream_weights`].
    UpstreamWeights,
    /// [`Subject::optimizer_steps`].
    OptimizerSteps,
    /// [`Subject::evaluation`].
    Evaluation,
    /// [`Subject::objectives`].
    Objectives,
}

type Answer<T> = Result<T, SubjectError>;

/// The hooks of a wrapper with the state `S`, each a plain function.
///
/// A hook that takes the subject inside stands for the whole call and decides what the inner subject is
/// asked; one that takes what came out changes that alone. Those of a call run in the order in which they are
/// listed.
pub struct Hooks<S> {
    /// What the subject says of itself.
    pub info: fn(&S, SubjectInfo) -> SubjectInfo,
    /// The parameters it lists.
    pub parameters: fn(&S, Vec<ParameterInfo>) -> Vec<ParameterInfo>,
    /// Whether it offers a capability; the last argument is whether the subject inside does.
    pub offers: fn(&S, Capability, bool) -> bool,
    /// [`Subject::reset`].
    pub reset: fn(&mut S, &mut dyn Subject) -> Answer<()>,
    /// [`Subject::configure`].
    pub configure: fn(&mut S, &mut dyn Subject, &LossSpec) -> Result<(), Unsupported>,
    /// The batch that is seen instead of the one that was given, by whatever call.
    pub batch: fn(&mut S, &GlobalBatch) -> GlobalBatch,
    /// [`Subject::accumulate`].
    pub accumulate: fn(&mut S, &mut dyn Subject, &GlobalBatch, &mut HandedOver) -> Answer<Observation>,
    /// The gradient that came out of [`accumulate`](Self::accumulate), [`backward`](Self::backward) or
    /// [`learn`](Self::learn).
    pub gradient: fn(&mut S, &GlobalBatch, &mut HandedOver),
    /// What came out beside the gradient of [`accumulate`](Self::accumulate).
    pub observation: fn(&mut S, &GlobalBatch, &mut Observation),
    /// [`LoadParameters::load`].
    pub load: fn(&mut S, &mut dyn Subject, &TensorSet) -> Answer<()>,
    /// [`LoadParameters::set`].
    pub set: fn(&mut S, &mut dyn Subject, &str, &[f64]) -> Answer<()>,
    /// [`TokenLosses::evaluate`].
    pub evaluate: fn(&mut S, &mut dyn Subject, &GlobalBatch) -> Answer<Vec<f64>>,
    /// The token losses that came out of it.
    pub token_losses: fn(&mut S, &GlobalBatch, &mut Vec<f64>),
    /// [`UpstreamWeights::backward`].
    #[expect(clippy::type_complexity, reason = "a hook has the arguments of what it stands in front of")]
    pub backward: fn(&mut S, &mut dyn Subject, &GlobalBatch, &[f64], &mut HandedOver) -> Answer<f64>,
    /// [`OptimizerSteps::start`].
    pub start: fn(&mut S, &mut dyn Subject, &Optimizer) -> Result<(), Unsupported>,
    /// [`OptimizerSteps::step`].
    pub step: fn(&mut S, &mut dyn Subject, &GlobalBatch) -> Answer<StepReport>,
    /// The report that came out of it.
    pub report: fn(&mut S, &GlobalBatch, &mut StepReport),
    /// [`OptimizerSteps::read`].
    pub read: fn(&mut S, &mut dyn Subject, &mut HandedOver) -> Answer<()>,
    /// [`Evaluation::validate`](lossproof_subject::Evaluation::validate).
    pub validate: fn(&mut S, &mut dyn Subject, &[MicroBatch]) -> Answer<Evaluated>,
    /// What it printed.
    pub printed: fn(&mut S, &[MicroBatch], &mut Evaluated),
    /// [`Objectives::learn`](lossproof_subject::Objectives::learn).
    pub learn: fn(&mut S, &mut dyn Subject, &ObjectiveBatch, &mut HandedOver) -> Answer<Observation>,
}

impl<S> Hooks<S> {
    /// Nothing is changed.
    pub const IDENTITY: Self = Self {
        info: |_, info| info,
        parameters: |_, parameters| parameters,
        offers: |_, _, inside| inside,
        reset: |_, inner| inner.reset(),
        configure: |_, inner, spec| inner.configure(spec),
        batch: |_, batch| batch.clone(),
        accumulate: |_, inner, batch, handed| inner.accumulate(batch, handed),
        gradient: |_, _, _| (),
        observation: |_, _, _| (),
        load: |_, inner, parameters| loader(inner)?.load(parameters),
        set: |_, inner, name, values| loader(inner)?.set(name, values),
        evaluate: |_, inner, batch| evaluator(inner)?.evaluate(batch),
        token_losses: |_, _, _| (),
        backward: |_, inner, batch, weights, handed| upstream(inner)?.backward(batch, weights, handed),
        start: |_, inner, optimizer| {
            let Some(steps) = inner.optimizer_steps() else { return Err(unsupported(inner)) };
            steps.start(optimizer)
        },
        step: |_, inner, batch| steps(inner)?.step(batch),
        report: |_, _, _| (),
        read: |_, inner, handed| steps(inner)?.read(handed),
        validate: |_, inner, batches| {
            let name = inner.info().name;
            inner.evaluation().ok_or_else(|| lacking(name, "validation"))?.validate(batches)
        },
        printed: |_, _, _| (),
        learn: |_, inner, batch, handed| objectives(inner)?.learn(batch, handed),
    };
}

impl<S> Clone for Hooks<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Hooks<S> {}

/// A wrapper that offers what the subject inside it cannot do.
fn lacking(subject: String, what: &str) -> SubjectError {
    SubjectError::Failed { subject, message: format!("the subject inside the wrapper lacks {what}") }
}

fn unsupported(inner: &dyn Subject) -> Unsupported {
    Unsupported::new(&inner.info().name, "optimizer steps")
}

fn loader(inner: &mut dyn Subject) -> Answer<&mut dyn LoadParameters> {
    let name = inner.info().name;
    inner.parameter_loading().ok_or_else(|| lacking(name, "loading parameters"))
}

fn evaluator(inner: &mut dyn Subject) -> Answer<&mut dyn TokenLosses> {
    let name = inner.info().name;
    inner.token_losses().ok_or_else(|| lacking(name, "evaluating token losses"))
}

fn upstream(inner: &mut dyn Subject) -> Answer<&mut dyn UpstreamWeights> {
    let name = inner.info().name;
    inner.upstream_weights().ok_or_else(|| lacking(name, "weighting token losses"))
}

fn objectives(inner: &mut dyn Subject) -> Answer<&mut dyn Objectives> {
    let name = inner.info().name;
    inner.objectives().ok_or_else(|| lacking(name, "learning anything but the next token"))
}

fn steps(inner: &mut dyn Subject) -> Answer<&mut dyn OptimizerSteps> {
    let name = inner.info().name;
    inner.optimizer_steps().ok_or_else(|| lacking(name, "optimizer steps"))
}
