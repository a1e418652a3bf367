//! The training of a loop between its calls.

use crate::{Element, accumulate::Accumulated, optimizer::Moments};
use dfdx::prelude::Device;
use lossproof_spec::Rule;
use std::collections::BTreeSet;

/// What a loop has begun: an update rule, its moments and the gradient so far.
pub(crate) struct Begun<E: Element, D: Device<E>> {
    pub(crate) rule: Rule,
    pub(crate) undecayed: BTreeSet<String>,
    pub(crate) frozen: BTreeSet<String>,
    pub(crate) updates: u32,
    /// By tensor, in the model's order; none before the first update.
    pub(crate) moments: Vec<Moments<E>>,
    /// One rank: to the trainer the ranks of a loop are more micro-batches.
    pub(crate) gradient: Accumulated<E, D>,
}
