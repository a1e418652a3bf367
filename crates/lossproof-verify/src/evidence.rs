//! What one subject computed: the raw material of a verification.

use super::{VerifyError, semantics::Semantics};
use lossproof_laws::distance;
use lossproof_spec::{GlobalBatch, LossSpec};
use lossproof_subject::{Collect, LoadParameters, Observation, Subject, TensorSet, TokenLosses};

/// Everything a small model's subject computed, gradients whole and in f64.
pub(crate) struct Evidence {
    pub(crate) name: String,
    /// Loss of every prediction.
    pub(crate) token_losses: Vec<f64>,
    /// Observation and gradient under each semantics.
    pub(crate) computed: Vec<(Observation, TensorSet)>,
    /// Gradient of the sum of each sequence's token losses, the sequence being alone.
    pub(crate) sequences: Vec<TensorSet>,
    /// What two identical calls differed by, relative to the gradient.
    pub(crate) noise: f64,
}

impl Evidence {
    pub(crate) fn gather(
        subject: &mut dyn Subject,
        batch: &GlobalBatch,
        semantics: &[Semantics],
        mut tick: impl FnMut(),
    ) -> Result<Self, VerifyError> {
        let name = subject.info().name;
        let token_losses = evaluator(subject)?.evaluate(batch)?;
        let mut computed = Vec::with_capacity(semantics.len());
        for meaning in semantics {
            computed.push(gradient(subject, &meaning.spec, &meaning.batch)?);
            tick();
        }
        let mut sequences = Vec::new();
        for sequence in batch.sequences() {
            let alone = GlobalBatch::single(sequence.clone());
            sequences.push(gradient(subject, &LossSpec::sum(), &alone)?.1);
            tick();
        }
        let noise = match (semantics.last(), computed.last()) {
            (Some(meaning), Some((_, first))) => {
                distance(&gradient(subject, &meaning.spec, &meaning.batch)?.1, first)
            }
            _ => 0.0,
        };
        tick();
        Ok(Self { name, token_losses, computed, sequences, noise })
    }

    /// `Σ_i |w_i|·‖g_i‖` over the sequences, for the elements that `norm` looks at.
    pub(crate) fn parts(&self, weights: &[f64], norm: impl Fn(&TensorSet) -> f64) -> f64 {
        self.sequences.iter().zip(weights).map(|(gradient, weight)| weight.abs() * norm(gradient)).sum()
    }
}

/// One configured accumulation, collected.
pub(crate) fn gradient(
    subject: &mut dyn Subject,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<(Observation, TensorSet), VerifyError> {
    let mut sink = Collect::default();
    subject.configure(spec)?;
    let observation = subject.accumulate(batch, &mut sink)?;
    let gradient = sink.into_tensors();
    let parameters = subject.parameters();
    if let Some(name) = gradient.keys().find(|name| !parameters.iter().any(|p| p.name == **name)) {
        return Err(VerifyError::UnknownGradient { subject: subject.info().name, name: name.clone() });
    }
    Ok((observation, gradient))
}

/// The capability to evaluate token losses.
pub(crate) fn evaluator(subject: &mut dyn Subject) -> Result<&mut dyn TokenLosses, VerifyError> {
    let name = subject.info().name;
    subject.token_losses().ok_or(VerifyError::Lacks { subject: name, capability: "evaluate token losses" })
}

/// The capability to take parameters.
pub(crate) fn loader(subject: &mut dyn Subject) -> Result<&mut dyn LoadParameters, VerifyError> {
    let name = subject.info().name;
    subject.parameter_loading().ok_or(VerifyError::Lacks { subject: name, capability: "load parameters" })
}
