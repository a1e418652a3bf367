//! The growth law: how far two implementations in the same dtype are apart, from how far they were apart at smaller sizes.

use super::{semantics::Semantics, side::Side};
use lossproof_laws::blocks::{self, Blocks};
use lossproof_numerics::ErrorModel;
use serde::Serialize;

/// `c` in `‖g − g′‖ = c·√(M·u_s² + S·u²)·scale`, for any block and semantics: what `verify` measured in f32 at gpt2-small,
/// -medium and -large at most, times what a further step in size and another batch may add. `docs/sizes.md` has the
/// measurements, `docs/tolerances.md` the derivation.
pub(super) const GROWTH: f64 = 1.0;

/// How far apart two implementations are, in units of the rounding error that the shape lets expect.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Growth {
    /// The largest distance of any block under any semantics, divided by the expected rounding error.
    #[serde(serialize_with = "crate::json::finite_or_text")]
    pub measured: f64,
    /// The block and the semantics.
    pub at: String,
    /// What it may be where no f64 truth fits in memory.
    pub fitted: f64,
}

impl Growth {
    pub(super) fn of(
        model: &ErrorModel,
        blocks: &Blocks,
        semantics: &[Semantics],
        ours: &Side,
        theirs: &Side,
    ) -> Self {
        let expected = model.gradient_floor(ours.dtype);
        let mut growth = Self { measured: 0.0, at: "nothing".to_owned(), fitted: GROWTH };
        for (number, meaning) in semantics.iter().enumerate() {
            let scales = blocks.scales(|index, _| theirs.sequences.scale(&meaning.weights, index));
            let pairs = ours.computed[number].sketches.iter().zip(&theirs.computed[number].sketches);
            for ((block, scale), pair) in blocks.with_scales(&scales).zip(pairs) {
                let apart = match pair {
                    (Some(ours), Some(theirs)) => ours.projections.distance(1.0, &theirs.projections),
                    _ => f64::INFINITY,
                };
                let measured = apart / scale / expected;
                if measured > growth.measured || measured.is_nan() {
                    growth.measured = measured;
                    growth.at = format!("{} under the {}", blocks::name(block), meaning.name);
                }
            }
        }
        growth
    }
}
