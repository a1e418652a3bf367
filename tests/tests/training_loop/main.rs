//! The training loop: on both trainers, beside Hugging Face's, through checkpoints, and in traces.

#![expect(clippy::print_stdout, reason = "patterns are printed as source, where somebody asks for them")]

mod agreement;
mod checkpoints;
mod laws;
mod recordings;
mod strangers;
mod traces;
