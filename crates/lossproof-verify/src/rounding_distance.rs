//! The rounding distance: how far two implementations in one dtype are apart, in units of the rounding that
//! is expected.

use super::{json::finite_or_text, semantics::Semantics, sketched_answers::SketchedAnswers};
use lossproof_laws::blocks::{self, Blocks};
use lossproof_numerics::ErrorModel;
use serde::Serialize;

/// `c` in `‖g − g′‖ = c·√(M·u_s² + S·u²)·scale`, for any block and semantics: what `verify` measured in f32
/// at gpt2-small, -medium and -large at most, times what a further step in size and another batch may add.
/// `docs/sizes.md` has the measurements, `docs/tolerances.md` the derivation.
pub(crate) const FITTED: f64 = 1.0;

/// How far apart trainer and reference are, in units of the rounding error that the shape lets expect.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundingDistance {
    /// The largest distance of any block under any semantics, divided by the expected rounding error.
    #[serde(serialize_with = "finite_or_text")]
    pub measured: f64,
    /// The block and the semantics.
    pub at: String,
    /// What it may be where no f64 truth fits in memory.
    pub fitted: f64,
}

impl RoundingDistance {
    /// Of the gradients of two subjects.
    pub(crate) fn between(
        trainer: &SketchedAnswers,
        reference: &SketchedAnswers,
        model: &ErrorModel,
        blocks: &Blocks,
        semantics: &[Semantics],
    ) -> Self {
        let expected = model.gradient_floor(trainer.losses.dtype);
        let mut distance = Self { measured: 0.0, at: "nothing".to_owned(), fitted: FITTED };
        for (number, meaning) in semantics.iter().enumerate() {
            let scales = blocks.scales(|index, _| reference.sequences.scale(&meaning.weights, index));
            for (index, (block, scale)) in blocks.with_scales(&scales).enumerate() {
                let [own, other] = [trainer, reference].map(|side| side.sketch(number, index, block, None));
                let apart = match (own, other) {
                    (Some(own), Some(other)) => own.projections.distance(1.0, &other.projections),
                    _ => f64::INFINITY,
                };
                let measured = apart / scale / expected;
                if measured > distance.measured || measured.is_nan() {
                    distance.measured = measured;
                    distance.at = format!("{} under the {}", blocks::name(block), meaning.name);
                }
            }
        }
        distance
    }
}
