//! libtorch's GPT-2 and Llama held to the third forward, to the loss calculus, and to its own contract.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod llama;
mod masks;
mod mixed;
mod parameters;
mod plain_llama;
mod reductions;
mod steps;
mod support;
mod third_forward;
mod updates;
mod upstream;
mod validation;
