//! What the cross-crate suites share: both doors, the recordings, batches that are hard, and broken trainers.

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// So does that of the page on traces.
#[cfg(doctest)]
#[doc = include_str!("../../docs/traces.md")]
pub struct Traces;

/// So does that of the page on verification.
#[cfg(doctest)]
#[doc = include_str!("../../docs/verify.md")]
pub struct Verify;

mod batches;
mod broken;
mod by_hand;
mod judged;
pub mod ranks;
mod text;
pub mod training_loop;

pub use batches::{hard_batch, packed_batch, ragged_batch, random_batch};
pub use broken::Break;
pub use by_hand::{Mistake, by_hand};
pub use judged::{has_failed, without_roles};
pub use text::text_batches;

use lossproof_cases::Recorded;
use lossproof_diagnosis::Pattern;
use lossproof_gpt2::{Config, ModelShape, reference};
use lossproof_laws::{LAWS, Law};
use lossproof_numerics::ErrorModel;
use lossproof_spec::{Dtype, GlobalBatch};
use lossproof_subject::{Device, Subject};
use lossproof_torch::{Activation, Gpt2Config, libtorch};
use std::fmt::Write as _;

/// The nearest number with the eight significant binary digits of bf16, of one that f32 has.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "bf16 has the range of f32")]
pub fn bf16(value: f64) -> f32 {
    let bits = (value as f32).to_bits();
    let nearest_even = bits + 0x7fff + (bits >> 16 & 1);
    f32::from_bits(nearest_even & 0xffff_0000)
}

/// The recording of gpt2-pico, as bytes.
pub const PICO: &[u8] = include_bytes!("../../fixtures/third-forward/gpt2-pico.safetensors");
/// The recording of gpt2-nano, as bytes.
pub const NANO: &[u8] = include_bytes!("../../fixtures/third-forward/gpt2-nano.safetensors");

/// The laws of a step that a trainer in f64 which lacks nothing is held to: all but the one that needs half
/// precision, which `tests/half_precision.rs` tries.
pub fn laws_of_a_step() -> impl Iterator<Item = &'static Law> {
    LAWS.iter().filter(|law| law.is_of_a_step() && law.id() != "accumulation-type")
}

/// A subject behind its door.
pub type Door = Box<dyn Subject>;

/// The reference on the processor.
///
/// # Panics
/// When it cannot be made, which fails the test.
#[must_use]
pub fn ours(config: Config, dtype: Dtype) -> Door {
    reference(config, dtype, Device::Cpu).expect("the reference")
}

/// The libtorch implementation on the processor.
///
/// # Panics
/// When it cannot be made, which fails the test.
#[must_use]
pub fn theirs(config: Config, dtype: Dtype) -> Door {
    theirs_with(config, dtype, Activation::TanhGelu)
}

/// The libtorch implementation with a choice of activation.
///
/// # Panics
/// When it cannot be made, which fails the test.
#[must_use]
pub fn theirs_with(config: Config, dtype: Dtype, activation: Activation) -> Door {
    let named = Gpt2Config::named(config.name()).expect("the same configurations");
    libtorch(&Gpt2Config { activation, ..named }, dtype, Device::Cpu).expect("libtorch")
}

/// A recording.
///
/// # Panics
/// When the fixture is damaged, which fails the test.
#[must_use]
pub fn recorded(bytes: &[u8]) -> Recorded {
    Recorded::parse(bytes).expect("the fixture")
}

/// The rounding model of a configuration on a batch.
#[must_use]
pub fn error_model(shape: ModelShape, batch: &GlobalBatch) -> ErrorModel {
    ErrorModel::new(shape.vocabulary, shape.width, shape.heads, shape.layers, batch)
}

/// Rows of source for `crates/lossproof-diagnosis/src/patterns`: each pattern with the ids of all bugs that have it.
#[must_use]
pub fn pattern_rows(patterns: impl IntoIterator<Item = (&'static str, Pattern)>) -> String {
    let mut rows: Vec<(Vec<&str>, Pattern)> = Vec::new();
    for (id, pattern) in patterns {
        match rows.iter_mut().find(|(_, known)| *known == pattern) {
            Some((ids, _)) => ids.push(id),
            None => rows.push((vec![id], pattern)),
        }
    }
    let mut source = String::new();
    for (ids, pattern) in rows {
        let pairs: Vec<String> = pattern.iter().map(|(law, kind)| format!("({law:?}, {kind:?})")).collect();
        let _ = writeln!(source, "    (&{ids:?}, &[{}]),", pairs.join(", "));
    }
    source
}
