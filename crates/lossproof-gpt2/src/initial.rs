//! Parameters to start from.

use crate::config::ModelShape;
use lossproof::TensorSet;

/// GPT-2's own initial parameters for a configuration: [`lossproof::gpt2_initial`].
#[must_use]
pub fn gpt2_initial(shape: ModelShape, seed: u64) -> TensorSet {
    lossproof::gpt2_initial(&shape.parameters(), seed)
}

/// Parameters to probe a configuration at, with no value that hides anything: [`lossproof::probe_initial`].
#[must_use]
pub fn probe_initial(shape: ModelShape, seed: u64) -> TensorSet {
    lossproof::probe_initial(&shape.parameters(), seed)
}
