//! Clauses of group 7: one optimizer step.
//!
//! A law here first lets the trainer take its steps, one after the other, and only reads parameters in
//! between ([`taken`]). Then it computes the gradients that the steps should have been taken with, and holds
//! every update to the closed form ([`closed_form`]).

mod between;
mod closed_form;
mod overflow;
mod rules;
mod scales;
mod taken;

pub(crate) use between::between_steps;
pub(crate) use closed_form::{roundings_of_update, tensor_norm};
pub(crate) use rules::{MOST_STEPS, adam, adamw, clipping, composition, norm_of, schedule, sgd};
pub(crate) use scales::{adam_scale, loss_scaling};
