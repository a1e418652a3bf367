//! What one judged subject computed, while it was the only one in memory.

use super::{
    Progress, VerifyError, describe,
    evidence::evaluator,
    semantics::Semantics,
    sequences::{self, Sequences, Sketches},
};
use lossproof_laws::{Sketch, blocks::Blocks};
use lossproof_spec::{Dtype, GlobalBatch, LossSpec};
use lossproof_subject::{Discard, Observation, Subject};

/// Everything kept of a judged subject.
pub(super) struct Side {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) dtype: Dtype,
    /// Loss of every prediction.
    pub(super) token_losses: Vec<f64>,
    pub(super) sequences: Sequences,
    /// Under each semantics.
    pub(super) computed: Vec<Computed>,
    /// What two identical calls differed by, relative to the gradient.
    pub(super) noise: f64,
}

/// What a judged subject computed under one semantics.
pub(super) struct Computed {
    pub(super) observation: Observation,
    pub(super) sketches: Sketches,
}

impl Side {
    pub(super) fn gather(
        subject: &mut dyn Subject,
        batch: &GlobalBatch,
        semantics: &[Semantics],
        blocks: &Blocks,
        seed: u64,
        progress: &mut Progress<'_>,
    ) -> Result<Self, VerifyError> {
        let info = subject.info();
        let token_losses = evaluator(subject)?.evaluate(batch)?;
        let sequences = Sequences::gather(subject, batch, blocks, seed, progress, || Discard, |Discard| ())?;
        // Once more, on the last one: what two identical calls differ by.
        let noise = match (batch.sequences().last(), sequences.last()) {
            (Some(sequence), Some(before)) => {
                let alone = GlobalBatch::single(sequence.clone());
                let again = Computed::new(subject, &LossSpec::sum(), &alone, blocks, seed)?;
                sequences::distance(blocks, before, &again.sketches)
            }
            _ => 0.0,
        };
        let mut computed = Vec::with_capacity(semantics.len());
        for meaning in semantics {
            progress(&format!("{}: {}", info.name, meaning.name), computed.len(), semantics.len());
            computed.push(Computed::new(subject, &meaning.spec, &meaning.batch, blocks, seed)?);
        }
        let description = describe(subject);
        Ok(Self { name: info.name, description, dtype: info.dtype, token_losses, sequences, computed, noise })
    }
}

impl Computed {
    fn new(
        subject: &mut dyn Subject,
        spec: &LossSpec,
        batch: &GlobalBatch,
        blocks: &Blocks,
        seed: u64,
    ) -> Result<Self, VerifyError> {
        let mut sketch = Sketch::new(seed, blocks.all());
        subject.configure(spec)?;
        let observation = subject.accumulate(batch, &mut sketch)?;
        Ok(Self { observation, sketches: sketch.into_blocks() })
    }
}
