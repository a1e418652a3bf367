//! Clauses of groups 8 to 10 that are about a whole training: what a trainer's own loop makes of samples, of
//! validations and of being stopped.
//!
//! A loop runs a small plan in which nothing divides, and leaves the parameters after every update. Each is held
//! to what the update rule makes, from the parameters before it, of the gradient that the trainer itself
//! accumulates over the samples of the update.

mod accepted;
mod dropout;
mod interruption;
mod plan;
mod poison;
mod rates;
mod replay;
mod updates;
mod validation;

pub(crate) use dropout::dropout;
pub(crate) use interruption::{resume, resume_again, resume_otherwise};
pub(crate) use poison::{not_a_number, skipped_update};
pub(crate) use updates::{
    frozen, samples_once, training_clipping, training_loss, training_schedule, training_split,
    training_update,
};
pub(crate) use validation::{training_undisturbed, training_validation};
