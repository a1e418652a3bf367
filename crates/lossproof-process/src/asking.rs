//! One question and its answer.

use crate::{
    AdapterError, Card, Failure, Message, PROTOCOL, Request,
    conversation::{Conversation, Question},
    message::Said,
};
use lossproof_spec::concise;
use lossproof_subject::{Call, GradientSink, SubjectError, Tensor, TensorSet, safetensors};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The tensors of an answer, and what was asked.
pub(crate) struct Tensors {
    pub(crate) call: Call,
    pub(crate) tensors: TensorSet,
}

impl Tensors {
    /// Takes those whose names begin so, under the rest of their names.
    pub(crate) fn below(&mut self, prefix: &str) -> TensorSet {
        let behind = self.tensors.range(prefix.to_owned()..).map(|(name, _)| name);
        let names: Vec<String> = behind.take_while(|name| name.starts_with(prefix)).cloned().collect();
        let mut taken = TensorSet::new();
        for name in names {
            if let Some(tensor) = self.tensors.remove(&name) {
                taken.insert(name[prefix.len()..].to_owned(), tensor);
            }
        }
        taken
    }

    /// The numbers in a tensor that may be there.
    pub(crate) fn numbers(&mut self, name: &str) -> Option<Vec<f64>> {
        self.tensors.remove(name).map(|tensor| tensor.to_f64())
    }
}

pub(crate) fn receive(sink: &mut dyn GradientSink, name: &str, tensor: &Tensor) -> Result<(), SubjectError> {
    Ok(sink.receive(name, tensor.shape(), tensor.values().into())?)
}

/// Characters of a message that are kept.
const LONGEST_MESSAGE: usize = 2000;

/// What a stranger says, on lines that end where they seem to.
pub(crate) fn printable(message: &str) -> String {
    let beginning: String = message.chars().take(LONGEST_MESSAGE).collect();
    lossproof_spec::printable(&beginning)
}

/// Asks a process what its trainer is.
pub(crate) fn hello(conversation: &mut dyn Conversation, asked: &mut u64) -> Result<Card, AdapterError> {
    let request = Request::Hello { protocol: PROTOCOL };
    let said = say::<serde_json::Value>(conversation, asked, &request, Vec::new(), 0)?;
    let (card, _) =
        said.map_err(|Failure { message, .. }| AdapterError::Refused { message: printable(&message) })?;
    // Another version may have another card.
    let version = card.get("protocol").and_then(serde_json::Value::as_u64);
    if let Some(found) =
        version.and_then(|found| u32::try_from(found).ok()).filter(|&found| found != PROTOCOL)
    {
        return Err(AdapterError::Protocol { found, expected: PROTOCOL });
    }
    serde_json::from_value(card).map_err(|error: serde_json::Error| {
        let problem = format!("is no card: {}", concise(error));
        AdapterError::Content { call: Call::Info, problem }
    })
}

/// Asks one question: what is answered, with its tensors, or why the trainer has no answer.
pub(crate) fn say<A: DeserializeOwned>(
    conversation: &mut dyn Conversation,
    asked: &mut u64,
    request: &Request<'_>,
    tensors: Vec<u8>,
    most_tensors: u64,
) -> Result<Result<(A, TensorSet), Failure>, AdapterError> {
    *asked += 1;
    let call = request.call();
    let not_a_message = |source| AdapterError::Message { call, source, words: None };
    let said: Said<&Request<'_>, (), ()> = Said::Request(request);
    let message = Arc::new(Message::new(*asked, said, tensors).map_err(not_a_message)?);
    let changes_state = request.changes_state();
    let answer = conversation.exchange(&Question { call, message: &message, changes_state, most_tensors })?;
    let found = answer.number().map_err(not_a_message)?;
    if found != *asked {
        return Err(AdapterError::WrongNumber { call, expected: *asked, found });
    }
    let (_, said) = answer.said::<serde::de::IgnoredAny, A, Failure>().map_err(not_a_message)?;
    match said {
        Said::Request(_) => Err(AdapterError::NoAnswer { call }),
        Said::Error(failure) => Ok(Err(failure)),
        Said::Answer(said) if answer.tensors.is_empty() => Ok(Ok((said, TensorSet::new()))),
        Said::Answer(said) => {
            let tensors = safetensors::decode(&answer.tensors);
            Ok(Ok((said, tensors.map_err(|source| AdapterError::Tensors { call, source })?)))
        }
    }
}
