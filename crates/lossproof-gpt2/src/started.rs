//! The optimizer of a trainer between its steps.

use crate::optimizer::Moments;
use lossproof_spec::Optimizer;

/// An optimizer that was started.
pub(crate) struct Started<E> {
    pub(crate) optimizer: Optimizer,
    /// Steps taken; skipped ones do not count.
    pub(crate) steps: u32,
    /// By tensor, in the model's order.
    pub(crate) moments: Vec<Moments<E>>,
}
