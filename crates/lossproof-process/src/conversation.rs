//! Who answers questions: a process, or what one answered before.

use crate::{AdapterError, Message};
use lossproof_subject::Call;
use std::sync::Arc;

/// A question on its way.
pub(crate) struct Question<'a> {
    /// What it asks.
    pub(crate) call: Call,
    /// The bytes.
    pub(crate) message: &'a Arc<Message>,
    /// Whether the answers to later questions depend on it.
    pub(crate) changes_state: bool,
    /// Bytes that the tensors of its answer can have at most.
    pub(crate) most_tensors: u64,
}

/// Who answers questions, one at a time.
pub(crate) trait Conversation {
    /// A call of a subject begins: its questions have one limit of time together.
    fn begin(&mut self);

    /// The answer to a question.
    fn exchange(&mut self, question: &Question<'_>) -> Result<Message, AdapterError>;

    /// Begins anew with a fresh process, after an error. Answers whether that can be done.
    fn begin_anew(&mut self) -> Result<bool, AdapterError>;

    /// Ends it: nothing more is asked. Nothing more may come, either. What it came to is kept where it was carried
    /// out to its end.
    fn end(&mut self, keeps: bool) -> Result<(), AdapterError>;
}
