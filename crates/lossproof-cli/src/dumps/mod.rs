//! The commands around gradients that a trainer left in files.

pub(crate) mod check;
#[cfg(feature = "trainers")]
pub(crate) mod export;
pub(crate) mod grads;
mod page;
