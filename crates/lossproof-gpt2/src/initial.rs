//! Parameters to start from.

use crate::config::ModelShape;
use lossproof_subject::TensorSet;

/// GPT-2's own initial parameters for a configuration: [`lossproof_subject::gpt2_initial`].
#[must_use]
pub fn gpt2_initial(shape: ModelShape, seed: u64) -> TensorSet {
    lossproof_subject::gpt2_initial(&shape.parameters(), seed)
}

/// Parameters to probe a configuration at, with no value that hides anything: [`lossproof_subject::probe_initial`].
#[must_use]
pub fn probe_initial(shape: ModelShape, seed: u64) -> TensorSet {
    lossproof_subject::probe_initial(&shape.parameters(), seed)
}
