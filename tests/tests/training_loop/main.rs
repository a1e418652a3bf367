//! The training loop: on both trainers, beside Hugging Face's, through checkpoints, and in traces.

mod agreement;
mod checkpoints;
mod laws;
mod recordings;
mod traces;
