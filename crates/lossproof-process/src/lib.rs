//! A trainer in a process of its own, in any language, as a [`Subject`](lossproof_subject::Subject).
//!
//! The judge starts a command, the *adapter*, and asks it over its standard input and output: a line of JSON for each
//! question and each answer, and behind it, where there are any, tensors in the safetensors format. Every
//! number that is judged is in a tensor, since JSON has no NaN. `docs/adapters.md` describes the protocol for
//! those who write an adapter.
//!
//! [`Adapter`] is the judge's end, which believes nothing: every message has a limit of bytes before it is read, every
//! call a limit of time, and a process that breaks either is ended with all that it started. [`serve`] is the
//! trainer's end for trainers in Rust. [`Adapter::recorded`] writes down a conversation, [`Adapter::replayed`] holds it
//! again without the trainer.

mod adapter;
mod answers;
mod asking;
mod capabilities;
mod card;
mod child;
mod command;
mod conversation;
mod error;
mod message;
mod recording;
mod recording_error;
mod requests;
#[cfg(feature = "schema")]
mod schemas;
mod serve;
mod tail;

pub use adapter::Adapter;
pub use answers::{Accumulated, Event, Failure, FailureKind, Nothing, Stepped, Trained, Validated};
pub use card::{
    Any, Capability, Card, CardError, ClaimsCard, CountCard, DtypesCard, LimitsCard, ModelCard, ParameterCard,
};
pub use command::CommandError;
pub use error::AdapterError;
pub use message::{Message, MessageError};
pub use recording_error::RecordingError;
pub use requests::{PROTOCOL, Request};
#[cfg(feature = "schema")]
pub use schemas::schemas;
pub use serve::{ServeError, serve};
