//! What is kept of the gradients of single sequences, which the calculus composes every other gradient of.

use super::{Progress, VerifyError};
use lossproof_laws::{BlockSketch, Projections, Sketch, blocks::Blocks};
use lossproof_numerics::Block;
use lossproof_spec::{GlobalBatch, LossSpec};
use lossproof_subject::{GradientSink, Subject, Tee};

/// The sketches of a gradient, by block; `None` where the parameter was not handed over.
pub(crate) type Sketches = Vec<Option<BlockSketch>>;

/// Sketches of the gradient of the sum of each sequence's token losses, the sequence being alone.
pub(crate) struct Sequences(Vec<Sketches>);

impl Sequences {
    /// Computes the gradient of each sequence; what passes by also goes to `also`, after which `done` is
    /// called.
    pub(crate) fn gather<S: GradientSink>(
        subject: &mut dyn Subject,
        batch: &GlobalBatch,
        blocks: &Blocks,
        seed: u64,
        progress: &mut Progress<'_>,
        mut also: impl FnMut() -> S,
        mut done: impl FnMut(S),
    ) -> Result<Self, VerifyError> {
        let stage = format!("{}: gradient of each sequence", subject.info().name);
        let count = batch.sequences().count();
        let mut sequences = Vec::with_capacity(count);
        subject.configure(&LossSpec::sum())?;
        for (index, sequence) in batch.sequences().enumerate() {
            progress(&stage, index, count);
            let (mut sketch, mut other) = (Sketch::new(seed, blocks.all()), also());
            subject.accumulate(&GlobalBatch::single(sequence.clone()), &mut Tee(&mut sketch, &mut other))?;
            sequences.push(sketch.into_blocks());
            done(other);
        }
        Ok(Self(sequences))
    }

    pub(crate) fn last(&self) -> Option<&Sketches> {
        self.0.last()
    }

    /// The projections of `Σ_i w_i·g_i` for one block.
    pub(crate) fn composed(&self, weights: &[f64], block: usize) -> Option<Projections> {
        let parts: Option<Vec<_>> = self.0.iter().map(|sketches| sketches[block].as_ref()).collect();
        let weighed = weights.iter().zip(parts?).map(|(&weight, part)| (weight, &part.projections));
        Some(Projections::combined(weighed))
    }

    /// `Σ_i |w_i|·‖g_i‖` for one block, which is at least the norm of their weighted sum; NaN when one was
    /// not handed over.
    pub(crate) fn scale(&self, weights: &[f64], block: usize) -> f64 {
        let norm = |sketches: &Sketches| sketches[block].as_ref().map_or(f64::NAN, |sketch| sketch.norm);
        self.0.iter().zip(weights).map(|(sketches, weight)| weight.abs() * norm(sketches)).sum()
    }
}

/// How far apart two sketches of a gradient are: the largest estimate of any block, relative to the block or
/// its siblings.
pub(crate) fn distance(blocks: &Blocks, one: &Sketches, other: &Sketches) -> f64 {
    let norm = |index: usize, _: &Block| one[index].as_ref().map_or(f64::NAN, |sketch| sketch.norm);
    let scales = blocks.scales(norm);
    let apart = blocks.with_scales(&scales).zip(one.iter().zip(other)).map(|((_, scale), pair)| match pair {
        (Some(a), Some(b)) => match a.projections.distance(1.0, &b.projections) {
            // A row of positions that this sequence does not reach: nothing on either side.
            0.0 => 0.0,
            apart => apart / scale,
        },
        (None, None) => 0.0,
        _ => f64::INFINITY,
    });
    // `max` passes over NaN; a NaN must not pass.
    apart.fold(0.0, |largest, apart| if apart.is_nan() { f64::INFINITY } else { largest.max(apart) })
}
