//! The judge's end: an adapter as a subject.

use crate::{
    Accumulated, AdapterError, Capability, Card, Failure, FailureKind, Nothing, Request,
    asking::{Tensors, hello, printable, receive, say},
    child::{Child, time_limit},
    conversation::Conversation,
    recording::{Recorded, Recorder},
};
use lossproof_spec::{EmptyGroup, GlobalBatch, Group, LossSpec};
use lossproof_subject::{
    Breach, Call, Evaluation, GradientSink, LoadParameters, Objectives, Observation, OptimizerSteps,
    ParameterInfo, Subject, SubjectError, SubjectInfo, TokenLosses, TrainingLoop, Unsupported,
    UpstreamWeights,
};
use serde::de::DeserializeOwned;
use std::{borrow::Cow, path::Path, time::Duration};

/// Bytes of tensors beside those of parameters and predictions: the header's frame, and numbers one by one.
const FRAME: u64 = 1 << 12;

/// A trainer behind a process, as a subject.
///
/// What is asked of it is asked over the protocol, and what comes back has its form checked here; its numbers are
/// checked by [`Checked`](lossproof_subject::Checked), as every subject's are. Where the process ends or breaks the
/// protocol, the call at which it did so fails; the next [`reset`](Subject::reset) begins with a fresh one, in
/// which the loss and the parameters in force are restored.
pub struct Adapter {
    conversation: Box<dyn Conversation>,
    /// Number of the last question.
    asked: u64,
    pub(crate) card: Card,
    pub(crate) info: SubjectInfo,
    pub(crate) parameters: Vec<ParameterInfo>,
    /// The loss that was configured last.
    spec: Option<LossSpec>,
    /// The parameters that were loaded last, as they were sent.
    pub(crate) loaded: Option<Vec<u8>>,
    /// What broke the conversation, until it begins anew.
    broken: Option<Breach>,
    /// Everything that broke it, which must not be lost where a caller goes on.
    breaches: Vec<Breach>,
}

impl Adapter {
    /// Starts a command and asks what its trainer is. Every answer may take as long as the environment variable
    /// `LOSSPROOF_TIMEOUT` says in seconds, ten minutes without it, less a twentieth.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer as the protocol says.
    pub fn start(command: &str) -> Result<Self, AdapterError> {
        Self::with_limit(command, time_limit())
    }

    /// The same with another limit of time for an answer.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn with_limit(command: &str, limit: Duration) -> Result<Self, AdapterError> {
        Self::of(Box::new(Child::start(command, limit)?))
    }

    /// Starts a command, and writes down everything that it answers into a file, for [`replayed`](Self::replayed).
    ///
    /// # Errors
    /// As [`start`](Self::start), and when the file cannot be written.
    pub fn recorded(command: &str, file: &Path) -> Result<Self, AdapterError> {
        Self::of(Box::new(Recorder::new(Child::start(command, time_limit())?, file)?))
    }

    /// The trainer of a recording, without the trainer: it answers what it answered then.
    ///
    /// # Errors
    /// When the file is no recording.
    pub fn replayed(file: &Path) -> Result<Self, AdapterError> {
        Self::of(Box::new(Recorded::open(file)?)).map_err(|error| match error {
            // It names the file already.
            AdapterError::Recording(error) => AdapterError::Recording(error),
            source => AdapterError::Recorded { path: file.to_owned(), source: Box::new(source) },
        })
    }

    fn of(mut conversation: Box<dyn Conversation>) -> Result<Self, AdapterError> {
        let mut asked = 0;
        let card = hello(&mut *conversation, &mut asked)?;
        let (info, parameters) = card.checked()?;
        Ok(Self {
            conversation,
            asked,
            card,
            info,
            parameters,
            spec: None,
            loaded: None,
            broken: None,
            breaches: Vec::new(),
        })
    }

    /// What the adapter said of its trainer.
    #[must_use]
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Ends the conversation, and the process with everything that it started.
    ///
    /// # Errors
    /// When more came than was asked for, or a recording cannot be written.
    pub fn finish(mut self) -> Result<(), AdapterError> {
        self.end(true)
    }

    /// Everything that broke the conversation, in order: the process ended, hung, or answered what is no answer.
    #[must_use]
    pub fn breaches(&self) -> &[Breach] {
        &self.breaches
    }

    fn end(&mut self, keeps: bool) -> Result<(), AdapterError> {
        self.conversation.begin();
        let mut left = Ok(());
        if self.broken.is_none() {
            let conversation = &mut *self.conversation;
            match say::<Nothing>(conversation, &mut self.asked, &Request::Bye, Vec::new(), FRAME) {
                // That a process does not take its leave is nothing that is judged, and a part of a recording has none.
                Ok(_)
                | Err(AdapterError::Ended { .. } | AdapterError::Hung { .. } | AdapterError::Recording(_)) => {
                }
                Err(error) => left = Err(error),
            }
        }
        self.conversation.end(keeps).and(left)
    }

    /// Whether the trainer can do this.
    pub(crate) fn can(&self, capability: Capability) -> bool {
        self.card.capabilities.contains(&capability)
    }

    /// Bytes that one tensor of every parameter can have, under a prefix of its name.
    pub(crate) fn bytes_of_parameters(&self) -> u64 {
        let of_one = |parameter: &ParameterInfo| {
            let values = parameter.shape.iter().product::<usize>() as u64;
            // A name may need six bytes of JSON for one of its own, a dimension twenty.
            8 * values + 6 * parameter.name.len() as u64 + 24 * parameter.shape.len() as u64 + 256
        };
        self.parameters.iter().map(of_one).sum()
    }

    /// Asks a question whose answer has tensors of so many bytes at most.
    pub(crate) fn ask<A: DeserializeOwned>(
        &mut self,
        request: &Request<'_>,
        tensors: Vec<u8>,
        most: u64,
    ) -> Result<(A, Tensors), SubjectError> {
        if let Some(breach) = &self.broken {
            return Err(breach.clone().into());
        }
        self.conversation.begin();
        self.go_on(request, tensors, most)
    }

    /// The same within a call that has begun.
    fn go_on<A: DeserializeOwned>(
        &mut self,
        request: &Request<'_>,
        tensors: Vec<u8>,
        most: u64,
    ) -> Result<(A, Tensors), SubjectError> {
        let call = request.call();
        match say(&mut *self.conversation, &mut self.asked, request, tensors, most.saturating_add(FRAME)) {
            Ok(Ok((answer, tensors))) => Ok((answer, Tensors { call, tensors })),
            Ok(Err(failure)) => Err(self.failure(failure)),
            Err(error) => Err(self.breaks(error.breach(call)).into()),
        }
    }

    /// The same, of a call whose only failure is that something is unsupported.
    pub(crate) fn ask_whether(&mut self, request: &Request<'_>, what: &str) -> Result<(), Unsupported> {
        match self.ask::<Nothing>(request, Vec::new(), 0) {
            Ok(_) => Ok(()),
            Err(SubjectError::Breach(breach)) => Err(Unsupported::unanswered(&self.info.name, what, breach)),
            Err(error) => Err(Unsupported::new(&self.info.name, format!("{what} ({error})"))),
        }
    }

    /// Keeps what broke the conversation.
    fn breaks(&mut self, breach: Breach) -> Breach {
        self.breaches.push(breach.clone());
        self.broken.get_or_insert(breach).clone()
    }

    /// An answer that has the form of one, and is none.
    pub(crate) fn malformed(&mut self, call: Call, problem: String) -> SubjectError {
        let error = AdapterError::Content { call, problem };
        self.breaks(error.breach(call)).into()
    }

    /// What the trainer itself says that it cannot.
    fn failure(&self, Failure { kind, message }: Failure) -> SubjectError {
        let subject = self.info.name.clone();
        let message = printable(&message);
        match kind {
            FailureKind::EmptyGroup => EmptyGroup { group: Group::Batch, nan: false }.into(),
            FailureKind::OtherTraining => SubjectError::OtherTraining { difference: message },
            FailureKind::Refused => SubjectError::Refused { subject, message },
            FailureKind::Unsupported | FailureKind::Failed => SubjectError::Failed { subject, message },
        }
    }

    /// Hands tensors over in the order of the parameters, and behind them those that are no parameter's, so that
    /// whoever receives them sees what is there.
    pub(crate) fn hand_over(
        &mut self,
        prefix: &str,
        tensors: &mut Tensors,
        sink: &mut dyn GradientSink,
    ) -> Result<(), SubjectError> {
        for parameter in &self.parameters {
            if let Some(tensor) = tensors.tensors.remove(&format!("{prefix}/{}", parameter.name)) {
                receive(sink, &parameter.name, &tensor)?;
            }
        }
        for (name, tensor) in tensors.below(&format!("{prefix}/")) {
            receive(sink, &name, &tensor)?;
        }
        self.nothing_more(tensors)
    }

    /// What a pass reports, its gradient handed over.
    pub(crate) fn observed(
        &mut self,
        request: &Request<'_>,
        tensors: Vec<u8>,
        predictions: usize,
        sink: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let most = self.bytes_of_parameters() + 8 * predictions as u64;
        let (Accumulated { supervised_tokens }, mut answered) = self.ask(request, tensors, most)?;
        let loss = self.number(&mut answered, "loss")?;
        let token_losses = answered.numbers("token_losses");
        self.hand_over("gradients", &mut answered, sink)?;
        Ok(Observation { loss, token_losses, supervised_tokens })
    }

    /// The number in a tensor of one value that must be there.
    pub(crate) fn number(&mut self, answered: &mut Tensors, name: &str) -> Result<f64, SubjectError> {
        let number = self.number_if_any(answered, name)?;
        number.ok_or_else(|| self.malformed(answered.call, format!("has no tensor `{name}`")))
    }

    /// The number in a tensor of one value that may be there.
    pub(crate) fn number_if_any(
        &mut self,
        answered: &mut Tensors,
        name: &str,
    ) -> Result<Option<f64>, SubjectError> {
        let Some(values) = answered.numbers(name) else { return Ok(None) };
        if let [value] = values.as_slice() {
            return Ok(Some(*value));
        }
        let problem = format!("has {} values in the tensor `{name}`, and it is one number", values.len());
        Err(self.malformed(answered.call, problem))
    }

    /// Refuses tensors that are left where all that an answer has were taken.
    pub(crate) fn nothing_more(&mut self, answered: &Tensors) -> Result<(), SubjectError> {
        match answered.tensors.keys().next() {
            None => Ok(()),
            Some(name) => {
                let problem = format!("has a tensor `{name}`, which no such answer has");
                Err(self.malformed(answered.call, problem))
            }
        }
    }

    /// Begins anew after the conversation broke, with the loss and the parameters that were in force.
    fn begin_anew(&mut self, breach: Breach) -> Result<(), SubjectError> {
        match self.conversation.begin_anew() {
            Ok(true) => {}
            Ok(false) => return Err(breach.into()),
            Err(error) => return Err(error.breach(Call::Reset).into()),
        }
        let card = hello(&mut *self.conversation, &mut self.asked);
        let card = card.map_err(|error| SubjectError::from(self.breaks(error.breach(Call::Info))))?;
        self.renew(card)?;
        if let Some(spec) = self.spec {
            self.go_on::<Nothing>(&Request::Configure { spec }, Vec::new(), 0)?;
        }
        if let Some(loaded) = self.loaded.clone() {
            self.go_on::<Nothing>(&Request::Load, loaded, 0)?;
        }
        // Only now: what was not restored must not count as whole.
        self.broken = None;
        Ok(())
    }

    /// Takes a card that may be another than the one before.
    fn renew(&mut self, card: Card) -> Result<(), SubjectError> {
        if card != self.card {
            let checked = card.checked();
            let (info, parameters) =
                checked.map_err(|error| self.breaks(AdapterError::Card(error).breach(Call::Info)))?;
            (self.card, self.info, self.parameters) = (card, info, parameters);
        }
        Ok(())
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.end(false);
    }
}

impl Subject for Adapter {
    fn info(&self) -> SubjectInfo {
        self.info.clone()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.parameters.clone()
    }

    /// Also asks for the card again, since it must not have changed.
    fn reset(&mut self) -> Result<(), SubjectError> {
        if let Some(breach) = self.broken.clone() {
            self.conversation.begin();
            return self.begin_anew(breach);
        }
        self.conversation.begin();
        let (_, tensors) = self.go_on::<Nothing>(&Request::Reset, Vec::new(), 0)?;
        self.nothing_more(&tensors)?;
        match hello(&mut *self.conversation, &mut self.asked) {
            Ok(card) => self.renew(card),
            Err(error) => Err(self.breaks(error.breach(Call::Info)).into()),
        }
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.ask_whether(&Request::Configure { spec: *spec }, &spec.to_string())?;
        self.spec = Some(*spec);
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let request = Request::Accumulate { batch: Cow::Borrowed(batch) };
        self.observed(&request, Vec::new(), batch.predictions().count(), gradients)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        if self.can(Capability::ParameterLoading) { Some(self) } else { None }
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        if self.can(Capability::TokenLosses) { Some(self) } else { None }
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        if self.can(Capability::UpstreamWeights) { Some(self) } else { None }
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        if self.can(Capability::OptimizerSteps) { Some(self) } else { None }
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        if self.can(Capability::Evaluation) { Some(self) } else { None }
    }

    fn objectives(&mut self) -> Option<&mut dyn Objectives> {
        let kinds = [Capability::SoftTargets, Capability::Masked, Capability::Prefix];
        if kinds.into_iter().any(|kind| self.can(kind)) { Some(self) } else { None }
    }

    fn training_loop(&mut self) -> Option<&mut dyn TrainingLoop> {
        if self.can(Capability::TrainingLoop) { Some(self) } else { None }
    }
}
