//! The training loop: on both trainers, beside Hugging Face's, through checkpoints, and in traces.

mod agreement;
mod checkpoints;
mod recordings;
mod traces;
