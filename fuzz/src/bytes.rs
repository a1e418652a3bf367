//! How long an input may be, and places in one.

use rand::{RngExt, rngs::ChaCha8Rng};

/// Bytes of the longest input.
pub const LONGEST: usize = 64 << 10;

/// A place in bytes, its end among them.
pub(crate) fn place(bytes: &[u8], random: &mut ChaCha8Rng) -> usize {
    random.random_range(0..=bytes.len())
}
