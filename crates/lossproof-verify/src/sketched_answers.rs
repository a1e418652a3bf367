//! What one subject answered while it was the only one in memory, of its gradients sketches alone.

use super::{
    Progress, VerifyError,
    alteration::{Alteration, Answer, Change},
    describe,
    losses::Losses,
    semantics::Semantics,
    sequences::{self, Sequences, Sketches},
};
use lossproof_laws::{BlockSketch, Projections, Sketch, blocks::Blocks};
use lossproof_numerics::Block;
use lossproof_spec::{GlobalBatch, LossSpec};
use lossproof_subject::{Discard, Observation, Subject};

/// Everything that is kept of a judged subject.
pub(crate) struct SketchedAnswers {
    pub(crate) losses: Losses,
    /// Name, version, framework, dtype and device.
    pub(crate) description: String,
    pub(crate) sequences: Sequences,
    /// The gradient under each semantics.
    gradients: Vec<Sketches>,
    /// What two identical calls differed by, relative to the gradient.
    pub(crate) noise: f64,
}

impl SketchedAnswers {
    /// Asks a subject for everything.
    pub(crate) fn gather(
        subject: &mut dyn Subject,
        batch: &GlobalBatch,
        semantics: &[Semantics],
        blocks: &Blocks,
        seed: u64,
        progress: &mut Progress<'_>,
    ) -> Result<Self, VerifyError> {
        let mut losses = Losses::evaluated(subject, batch)?;
        let sequences = Sequences::gather(subject, batch, blocks, seed, progress, || Discard, |Discard| ())?;
        // Once more, on the last one: what two identical calls differ by.
        let noise = match (batch.sequences().last(), sequences.last()) {
            (Some(sequence), Some(before)) => {
                let alone = GlobalBatch::single(sequence.clone());
                let (_, again) = accumulate(subject, &LossSpec::sum(), &alone, blocks, seed)?;
                sequences::distance(blocks, before, &again)
            }
            _ => 0.0,
        };
        let mut gradients = Vec::with_capacity(semantics.len());
        for meaning in semantics {
            progress(&format!("{}: {}", losses.name, meaning.name), gradients.len(), semantics.len());
            let (observation, sketches) = accumulate(subject, &meaning.spec, &meaning.batch, blocks, seed)?;
            losses.observe(subject, meaning, observation)?;
            gradients.push(sketches);
        }
        let description = describe(subject);
        Ok(Self { losses, description, sequences, gradients, noise })
    }

    /// The sketch of one block of the gradient under a semantics, the block being the one at `index`: as it
    /// is, or as it is when an alteration concerns it. `None` where it was not handed over.
    pub(crate) fn sketch(
        &self,
        semantics: usize,
        index: usize,
        block: &Block,
        alteration: Option<&Alteration<'_>>,
    ) -> Option<BlockSketch> {
        let BlockSketch { norm, projections } = self.gradients[semantics][index].as_ref()?;
        let factor = factor(semantics, block, alteration);
        let projections = scaled(projections, factor);
        Some(BlockSketch { norm: factor.abs() * norm, projections })
    }
}

/// What an alteration multiplies one block of a gradient with. Projections are linear, so the sketch of a
/// gradient whose block is multiplied is the multiplied sketch: no second backward pass is needed to see it.
pub(crate) fn factor(semantics: usize, block: &Block, alteration: Option<&Alteration<'_>>) -> f64 {
    match alteration {
        Some(Alteration { answer, change: Change::Factor(factor) })
            if *answer == Answer::Gradient(semantics, block) =>
        {
            *factor
        }
        _ => 1.0,
    }
}

/// The projections of a multiple.
pub(crate) fn scaled(projections: &Projections, factor: f64) -> Projections {
    Projections::combined([(factor, projections)])
}

/// One configured accumulation, sketched.
fn accumulate(
    subject: &mut dyn Subject,
    spec: &LossSpec,
    batch: &GlobalBatch,
    blocks: &Blocks,
    seed: u64,
) -> Result<(Observation, Sketches), VerifyError> {
    let mut sketch = Sketch::new(seed, blocks.all());
    subject.configure(spec)?;
    let observation = subject.accumulate(batch, &mut sketch)?;
    Ok((observation, sketch.into_blocks()))
}
