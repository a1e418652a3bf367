//! What the f64 truth leaves behind before it makes room for the subjects that are judged.

use super::{
    Progress, VerifyError, describe,
    global_differences::{self, Derivative},
    losses::Losses,
    semantics::Semantics,
    sequences::Sequences,
    statement::StatementRow,
};
use lossproof_laws::blocks::Blocks;
use lossproof_spec::GlobalBatch;
use lossproof_subject::{ParameterSource, Subject};

/// Everything kept of the truth.
///
/// The truth of a semantics is what the calculus makes of the gradients of single sequences: it depends on no
/// reduction that is itself to be judged, and on no padding.
pub(crate) struct Truth {
    /// Its token losses, and its name in rows: the implementation itself may also be judged.
    pub(crate) losses: Losses,
    /// Name of the implementation it belongs to.
    pub(crate) implementation: String,
    pub(crate) description: String,
    pub(crate) sequences: Sequences,
    derivatives: Vec<Derivative>,
}

impl Truth {
    /// Differentiates the truth's token losses, and asks it for token losses and gradients.
    pub(crate) fn gather(
        subject: &mut dyn Subject,
        parameters: &dyn ParameterSource,
        batch: &GlobalBatch,
        blocks: &Blocks,
        seed: u64,
        progress: &mut Progress<'_>,
    ) -> Result<Self, VerifyError> {
        let mut derivatives = global_differences::differentiate(subject, batch, parameters, seed, progress)?;
        subject.reset()?;
        let mut losses = Losses::evaluated(subject, batch)?;
        let implementation = losses.name.clone();
        losses.name += " f64";
        let mut inner = Vec::new();
        let sequences = Sequences::gather(
            subject,
            batch,
            blocks,
            seed,
            progress,
            || global_differences::Inner::new(&derivatives),
            |sink| inner.push(sink.finish()),
        )?;
        for of_sequence in inner {
            for (derivative, inner) in derivatives.iter_mut().zip(of_sequence) {
                derivative.inner.push(inner);
            }
        }
        let description = format!("truth: {}", describe(subject));
        Ok(Self { losses, implementation, description, sequences, derivatives })
    }

    /// Holds the truth's gradient to the derivatives of its own token losses.
    pub(crate) fn row(&self, number: usize, meaning: &Semantics, blocks: &Blocks) -> StatementRow {
        let size = |index| {
            let composed = self.sequences.composed(&meaning.weights, index);
            composed.map_or(f64::NAN, |projections| projections.size())
        };
        let norm = (0..blocks.all().len()).map(size).map(|size| size * size).sum::<f64>().sqrt();
        global_differences::row(&self.losses.name, &self.derivatives, number, meaning, norm)
    }
}
