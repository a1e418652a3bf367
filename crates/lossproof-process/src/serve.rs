//! The trainer's end, for trainers in Rust: questions answered by a subject.

use crate::{
    Accumulated, Capability, Card, Event, Failure, FailureKind, Message, MessageError, Nothing, PROTOCOL,
    Request, Stepped, Trained, Validated, message::Said,
};
use lossproof_subject::{
    Collect, ObjectiveBatch, ObjectiveKind, Observation, Offered, StepReport, Subject, SubjectError, Tensor,
    TensorSet, TensorValues, TrainingEvent, TrainingLoop, TrainingTrace, Unsupported,
    safetensors::{CodecError, decode, encode},
};
use serde::{Serialize, de::IgnoredAny};
use std::{
    collections::BTreeSet,
    io::{self, BufRead, Write},
};

/// Bytes of tensors that a question may have. The judge is trusted more than an adapter is.
const MOST_TENSORS: u64 = 1 << 40;

/// Answers the questions that come in about a subject, until nothing more is asked.
///
/// The output is for answers alone: whatever else the program prints belongs on standard error.
///
/// # Errors
/// When a question is none, or the other end is gone.
pub fn serve(
    subject: &mut dyn Subject,
    mut input: impl BufRead,
    mut output: impl Write,
) -> Result<(), ServeError> {
    while let Some(message) = Message::read(&mut input, MOST_TENSORS)? {
        let (id, said) = message.said::<Request<'static>, IgnoredAny, IgnoredAny>()?;
        let Said::Request(request) = said else { return Err(ServeError::NoRequest { id }) };
        let last = request == Request::Bye;
        let answer = match answer(subject, request, &message.tensors) {
            Ok(Reply { answer, tensors }) => {
                let said: Said<(), _, ()> = Said::Answer(answer);
                Message::new(id, said, if tensors.is_empty() { Vec::new() } else { encode(&tensors)? })?
            }
            Err(error) => Message::new(id, Said::<(), (), _>::Error(failure(&error)), Vec::new())?,
        };
        answer.write(&mut output).map_err(|source| ServeError::Gone { source })?;
        if last {
            break;
        }
    }
    Ok(())
}

/// Why answering ended before the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// What came in is no question.
    #[error("what came in is no question")]
    Message(#[from] MessageError),
    /// An answer where a question was due.
    #[error("message {id} asks nothing")]
    NoRequest {
        /// Its number.
        id: u64,
    },
    /// Tensors that have no form.
    #[error("the tensors of a message")]
    Tensors(#[from] CodecError),
    /// Nobody takes the answer.
    #[error("the answer could not be written")]
    Gone {
        /// What the system says.
        source: io::Error,
    },
}

/// An answer, and its tensors.
struct Reply {
    answer: serde_json::Value,
    tensors: TensorSet,
}

impl Reply {
    fn new(answer: &impl Serialize, tensors: TensorSet) -> Result<Self, Refusal> {
        let answer = serde_json::to_value(answer).map_err(|error| Refusal::Failed(error.to_string()))?;
        Ok(Self { answer, tensors })
    }

    fn done() -> Result<Self, Refusal> {
        Self::new(&Nothing {}, TensorSet::new())
    }
}

/// Why there is no answer.
enum Refusal {
    Subject(SubjectError),
    Unsupported(String),
    Failed(String),
}

impl From<SubjectError> for Refusal {
    fn from(error: SubjectError) -> Self {
        Self::Subject(error)
    }
}

impl From<Unsupported> for Refusal {
    fn from(error: Unsupported) -> Self {
        match error.breach {
            Some(breach) => Self::Subject((*breach).into()),
            None => Self::Unsupported(error.what),
        }
    }
}

impl From<CodecError> for Refusal {
    fn from(error: CodecError) -> Self {
        Self::Failed(error.to_string())
    }
}

fn failure(refusal: &Refusal) -> Failure {
    let (kind, message) = match refusal {
        Refusal::Unsupported(what) => (FailureKind::Unsupported, what.clone()),
        Refusal::Failed(what) => (FailureKind::Failed, what.clone()),
        Refusal::Subject(error) => (
            kind(error),
            match error {
                SubjectError::Failed { message, .. } | SubjectError::Refused { message, .. } => {
                    message.clone()
                }
                SubjectError::OtherTraining { difference } => difference.clone(),
                error => error.to_string(),
            },
        ),
    };
    Failure { kind, message }
}

fn kind(error: &SubjectError) -> FailureKind {
    match error {
        SubjectError::Limit { .. }
        | SubjectError::Number { .. }
        | SubjectError::Kind { .. }
        | SubjectError::Refused { .. } => FailureKind::Refused,
        SubjectError::EmptyGroup(_) => FailureKind::EmptyGroup,
        SubjectError::OtherTraining { .. } => FailureKind::OtherTraining,
        _ => FailureKind::Failed,
    }
}

/// A capability that the card does not have.
fn lacking(what: &str) -> Refusal {
    Refusal::Unsupported(format!("{what} is not among the capabilities"))
}

fn answer(subject: &mut dyn Subject, request: Request<'_>, tensors: &[u8]) -> Result<Reply, Refusal> {
    let sent = || if tensors.is_empty() { Ok(TensorSet::new()) } else { decode(tensors) };
    match request {
        Request::Hello { protocol: PROTOCOL } => Reply::new(&card(subject), TensorSet::new()),
        Request::Hello { protocol } => Err(Refusal::Failed(format!(
            "version {protocol} of the protocol is not spoken here, but {PROTOCOL}"
        ))),
        Request::Bye => Reply::done(),
        Request::Reset => {
            subject.reset()?;
            Reply::done()
        }
        Request::Configure { spec } => {
            subject.configure(&spec)?;
            Reply::done()
        }
        Request::Accumulate { batch } => {
            let mut gradients = Collect::default();
            let observation = subject.accumulate(&batch, &mut gradients)?;
            pass(observation, gradients)
        }
        Request::Load => {
            let parameters = sent()?
                .into_iter()
                .filter_map(|(name, tensor)| Some((name.strip_prefix("parameters/")?.to_owned(), tensor)));
            let parameters = parameters.collect();
            subject.parameter_loading().ok_or_else(|| lacking("parameter-loading"))?.load(&parameters)?;
            Reply::done()
        }
        Request::Set { name } => {
            let values = sent()?.remove("values").map(|tensor| tensor.to_f64()).unwrap_or_default();
            subject.parameter_loading().ok_or_else(|| lacking("parameter-loading"))?.set(&name, &values)?;
            Reply::done()
        }
        Request::Evaluate { batch } => {
            let losses = subject.token_losses().ok_or_else(|| lacking("token-losses"))?.evaluate(&batch)?;
            Reply::new(&Nothing {}, TensorSet::from([numbers("token_losses", losses)]))
        }
        Request::Backward { batch } => {
            let weights = sent()?.remove("weights").map(|tensor| tensor.to_f64()).unwrap_or_default();
            let mut gradients = Collect::default();
            let capability = subject.upstream_weights().ok_or_else(|| lacking("upstream-weights"))?;
            let loss = capability.backward(&batch, &weights, &mut gradients)?;
            pass(Observation::new(loss, None), gradients)
        }
        Request::Start { optimizer } => {
            subject.optimizer_steps().ok_or_else(|| lacking("optimizer-steps"))?.start(&optimizer)?;
            Reply::done()
        }
        Request::Step { batch } => {
            stepped(subject.optimizer_steps().ok_or_else(|| lacking("optimizer-steps"))?.step(&batch)?)
        }
        Request::Read => {
            let mut parameters = Collect::default();
            subject.optimizer_steps().ok_or_else(|| lacking("optimizer-steps"))?.read(&mut parameters)?;
            Reply::new(&Nothing {}, prefixed("parameters", parameters.into_tensors()))
        }
        Request::Validate { batches } => {
            let found = subject.evaluation().ok_or_else(|| lacking("evaluation"))?.validate(&batches)?;
            let tensors =
                TensorSet::from([number("loss", found.loss), number("perplexity", found.perplexity)]);
            Reply::new(&Validated { tokens: found.tokens }, tensors)
        }
        Request::Learn { objective, batch, prefixes } => {
            let micro_batch = batch.into_owned();
            let batch = match objective {
                ObjectiveKind::SoftTargets => {
                    ObjectiveBatch::SoftTargets { micro_batch, targets: rows(sent()?.remove("targets")) }
                }
                ObjectiveKind::Masked => ObjectiveBatch::Masked { micro_batch },
                ObjectiveKind::Prefix => ObjectiveBatch::Prefix { micro_batch, prefixes },
            };
            let mut gradients = Collect::default();
            let capability = subject.objectives().ok_or_else(|| lacking(objective.name()))?;
            let observation = capability.learn(&batch, &mut gradients)?;
            pass(observation, gradients)
        }
        Request::Accepts { plan } => {
            training_loop(subject)?.accepts(&plan)?;
            Reply::done()
        }
        Request::Train { plan, stop_after } => trained(training_loop(subject)?.train(&plan, stop_after)?),
        Request::Resume { plan, stop_after } => trained(training_loop(subject)?.resume(&plan, stop_after)?),
    }
}

fn training_loop(subject: &mut dyn Subject) -> Result<&mut dyn TrainingLoop, Refusal> {
    subject.training_loop().ok_or_else(|| lacking("training-loop"))
}

/// The rows of a matrix.
fn rows(matrix: Option<Tensor>) -> Vec<Vec<f64>> {
    let Some(matrix) = matrix else { return Vec::new() };
    let columns = matrix.shape().last().copied().unwrap_or(1).max(1);
    matrix.to_f64().chunks(columns).map(<[f64]>::to_vec).collect()
}

fn numbers(name: &str, values: Vec<f64>) -> (String, Tensor) {
    let tensor = Tensor::new(vec![values.len()], TensorValues::F64(values));
    (name.to_owned(), tensor.expect("invariant: one dimension holds as many values as it says"))
}

fn number(name: &str, value: f64) -> (String, Tensor) {
    numbers(name, vec![value])
}

fn prefixed(prefix: &str, tensors: TensorSet) -> TensorSet {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}/{name}"), tensor)).collect()
}

fn pass(observation: Observation, gradients: Collect) -> Result<Reply, Refusal> {
    let mut tensors = prefixed("gradients", gradients.into_tensors());
    tensors.extend([number("loss", observation.loss)]);
    tensors.extend(observation.token_losses.map(|losses| numbers("token_losses", losses)));
    Reply::new(&Accumulated { supervised_tokens: observation.supervised_tokens }, tensors)
}

fn stepped(report: StepReport) -> Result<Reply, Refusal> {
    let mut tensors = TensorSet::from([
        number("loss", report.observation.loss),
        number("learning_rate", report.learning_rate),
        number("grad_norm", report.grad_norm),
        number("clip_factor", report.clip_factor),
        numbers("tensor_norms", report.tensor_norms),
    ]);
    tensors.extend(report.observation.token_losses.map(|losses| numbers("token_losses", losses)));
    let supervised_tokens = report.observation.supervised_tokens;
    Reply::new(&Stepped { supervised_tokens, skipped: report.skipped }, tensors)
}

fn trained(trace: TrainingTrace) -> Result<Reply, Refusal> {
    let mut events = Vec::new();
    let mut tensors = TensorSet::new();
    for (index, event) in trace.events.into_iter().enumerate() {
        let named = |name: &str| format!("events/{index}/{name}");
        let optional = |name: &str, value: Option<f64>| value.map(|value| number(&named(name), value));
        events.push(match event {
            TrainingEvent::Update(update) => {
                tensors.extend(prefixed(&named("parameters"), update.parameters));
                tensors.extend(optional("loss", update.loss));
                tensors.extend(optional("learning_rate", update.learning_rate));
                tensors.extend(optional("grad_norm", update.grad_norm));
                Event::Update { samples: update.samples, skipped: update.skipped }
            }
            TrainingEvent::Validation(found) => {
                tensors.extend([
                    number(&named("loss"), found.loss),
                    number(&named("perplexity"), found.perplexity),
                ]);
                Event::Validation { tokens: found.tokens }
            }
            TrainingEvent::EpochEnd(loss) => {
                tensors.extend(optional("loss", loss));
                Event::EpochEnd
            }
        });
    }
    Reply::new(&Trained { events }, tensors)
}

fn card(subject: &mut dyn Subject) -> Card {
    let offered = Offered::by(subject);
    let mut capabilities = BTreeSet::new();
    let has = [
        (Capability::ParameterLoading, offered.parameter_loading),
        (Capability::TokenLosses, offered.token_losses),
        (Capability::UpstreamWeights, offered.upstream_weights),
        (Capability::OptimizerSteps, offered.optimizer_steps),
        (Capability::Evaluation, offered.evaluation),
        (Capability::TrainingLoop, offered.training_loop),
        (Capability::Resume, subject.training_loop().is_some_and(TrainingLoop::resumes)),
        (Capability::MasksOfSamples, subject.training_loop().is_some_and(TrainingLoop::masks_of_samples)),
    ];
    capabilities.extend(has.into_iter().filter(|(_, has)| *has).map(|(capability, _)| capability));
    capabilities
        .extend(ObjectiveKind::ALL.into_iter().filter(|&kind| offered.learns(kind)).map(Capability::of));
    Card::of(&subject.info(), &subject.parameters(), capabilities)
}
