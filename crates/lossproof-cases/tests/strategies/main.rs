//! What the strategies draw, and what they shrink to.

mod features;
mod inside;
mod measured;
mod shrinking;

use lossproof_subject::Limits;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A model with room for the default size, as small as gpt2-pico otherwise.
const VOCABULARY: usize = 64;
const POSITIONS: usize = 24;

fn limits() -> Limits {
    Limits::of_model(VOCABULARY, POSITIONS)
}

fn runner(seed: u8) -> TestRunner {
    let config = Config { failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
}
