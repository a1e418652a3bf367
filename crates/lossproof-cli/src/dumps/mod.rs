//! The commands around gradients that a trainer left in files.

mod answers;
mod cells;
pub(crate) mod check;
#[cfg(feature = "trainers")]
pub(crate) mod export;
mod finding_words;
pub(crate) mod grads;
mod page;
