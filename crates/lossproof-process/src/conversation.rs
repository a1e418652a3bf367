//! Who answers questions: a process, or what one answered before.

use crate::{AdapterError, Message};
use lossproof_subject::Call;

/// A question on its way.
pub(crate) struct Question<'a> {
    /// What it asks.
    pub(crate) call: Call,
    /// The bytes.
    pub(crate) message: &'a Message,
    /// Whether the answers to later questions depend on it.
    pub(crate) changes_state: bool,
    /// Bytes that the tensors of its answer can have at most.
    pub(crate) most_tensors: u64,
}

/// Who answers questions, one at a time.
pub(crate) trait Conversation {
    /// The answer to a question.
    fn exchange(&mut self, question: &Question<'_>) -> Result<Message, AdapterError>;

    /// Begins anew with a fresh process, after an error. Answers whether that can be done.
    fn begin_anew(&mut self) -> Result<bool, AdapterError>;

    /// Ends it: nothing more is asked. Nothing more may come, either.
    fn end(&mut self) -> Result<(), AdapterError>;
}
