//! What the f64 truth leaves behind before it makes room for the subjects that are judged.

use super::{
    Progress, VerifyError, describe,
    evidence::evaluator,
    global::{self, Derivative},
    semantics::Semantics,
    sequences::Sequences,
    statement::Row,
};
use lossproof_laws::blocks::Blocks;
use lossproof_spec::GlobalBatch;
use lossproof_subject::{ParameterSource, Subject};

/// Everything kept of the truth.
///
/// The truth of a semantics is what the calculus makes of the gradients of single sequences: it depends on no reduction that
/// is itself to be judged, and on no padding.
pub(super) struct Truth {
    /// Name in rows; the implementation itself may also be judged.
    pub(super) name: String,
    /// Name of the implementation it belongs to.
    pub(super) implementation: String,
    pub(super) description: String,
    /// Loss of every prediction.
    pub(super) token_losses: Vec<f64>,
    pub(super) sequences: Sequences,
    derivatives: Vec<Derivative>,
}

impl Truth {
    pub(super) fn gather(
        subject: &mut dyn Subject,
        parameters: &dyn ParameterSource,
        batch: &GlobalBatch,
        blocks: &Blocks,
        seed: u64,
        progress: &mut Progress<'_>,
    ) -> Result<Self, VerifyError> {
        let implementation = subject.info().name;
        let mut derivatives = global::differentiate(subject, batch, parameters, seed, progress)?;
        subject.reset()?;
        let token_losses = evaluator(subject)?.evaluate(batch)?;
        let mut inner = Vec::new();
        let sequences = Sequences::gather(
            subject,
            batch,
            blocks,
            seed,
            progress,
            || global::Inner::new(&derivatives),
            |sink| inner.push(sink.finish()),
        )?;
        for of_sequence in inner {
            for (derivative, inner) in derivatives.iter_mut().zip(of_sequence) {
                derivative.inner.push(inner);
            }
        }
        Ok(Self {
            name: format!("{implementation} f64"),
            implementation,
            description: format!("truth: {}", describe(subject)),
            token_losses,
            sequences,
            derivatives,
        })
    }

    /// Holds the truth's gradient to the derivatives of its own forward pass.
    pub(super) fn row(&self, meaning: &Semantics, blocks: &Blocks) -> Row {
        let size = |index| {
            let composed = self.sequences.composed(&meaning.weights, index);
            composed.map_or(f64::NAN, |projections| projections.size())
        };
        let norm = (0..blocks.all().len()).map(size).map(|size| size * size).sum::<f64>().sqrt();
        global::row(&self.name, &self.derivatives, meaning, norm)
    }
}
