//! What a weighted sum of token losses and its gradient truly are.

use super::model::{Kernel, Scored, Term, honest_kernel, softmax};
use lossproof_laws::names::{BIAS, EMBEDDING, GAIN, head_of_its_own};
use lossproof_numerics::norm;
use lossproof_spec::{CompensatedSum, GlobalBatch, IGNORE_INDEX, LossSpec, Sequence, SequenceFields};
use lossproof_subject::{Collect, ParameterInfo, Subject, SubjectError, Tensor, TensorSet, TensorValues};
use std::collections::BTreeMap;

/// Values of tensors by name.
pub(super) type Values = BTreeMap<String, Vec<f64>>;

/// A loss and its gradient, of the parameters that an oracle knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) loss: f64,
    pub(super) gradient: Values,
}

impl Outcome {
    pub(super) fn norm(&self) -> f64 {
        norm(self.gradient.values().flatten())
    }
}

/// A model whose logits are known: with a final gain of zero every hidden state is the final bias b, so the logits are
/// `z_c = Σ_j wte[c][j]·b[j]` at every position, the gradient of `wte` is `∂L/∂z ⊗ b`, and that of the bias `wteᵀ·∂L/∂z`.
pub(super) struct Pinned {
    bias: Vec<f64>,
    embedding: Vec<f64>,
    logits: Vec<f64>,
}

impl Pinned {
    /// Pins parameters with this final bias; `None` where they are not a GPT-2's.
    pub(super) fn pin(parameters: &mut TensorSet, bias: Vec<f64>) -> Option<Self> {
        // A head of its own has logits of its own.
        if head_of_its_own(parameters.keys()) {
            return None;
        }
        let set = |parameters: &mut TensorSet, name: &str, values: Vec<f64>| {
            let shape = parameters.get(name)?.shape().to_vec();
            let tensor = Tensor::new(shape, TensorValues::F64(values)).ok()?;
            parameters.insert(name.to_owned(), tensor)
        };
        let width = bias.len();
        set(parameters, GAIN, vec![0.0; width])?;
        set(parameters, BIAS, bias.clone())?;
        let embedding = parameters.get(EMBEDDING)?.to_f64();
        let logit =
            |row: &[f64]| row.iter().zip(&bias).map(|(w, b)| w * b).collect::<CompensatedSum>().value();
        let logits = embedding.chunks_exact(width.max(1)).map(logit).collect();
        Some(Self { bias, embedding, logits })
    }
}

impl Pinned {
    /// The gradient by each logit, of a gradient of the embedding.
    pub(super) fn by_logit(&self, embedding: &[f64]) -> Vec<f64> {
        let square: f64 = self.bias.iter().map(|b| b * b).sum();
        let along = |row: &[f64]| row.iter().zip(&self.bias).map(|(g, b)| g * b).sum::<f64>() / square;
        embedding.chunks_exact(self.bias.len().max(1)).map(along).collect()
    }

    /// Width of the hidden state.
    pub(super) fn width(&self) -> usize {
        self.bias.len()
    }

    /// The probability of every token.
    pub(super) fn probabilities(&self) -> Vec<f64> {
        softmax(&self.logits)
    }
}

impl Pinned {
    /// `Σ` of the terms and its gradient; `None` where a number is not that of a loss.
    pub(super) fn outcome(&mut self, kernel: Option<Kernel>, terms: &[Term]) -> Option<Outcome> {
        let (mut loss, mut by_logit) = (0.0, vec![0.0; self.logits.len()]);
        for term in terms {
            let token_loss = term.token_loss();
            for (prediction, &weight) in
                term.batch.predictions().zip(&term.weights).filter(|(_, w)| **w != 0.0)
            {
                let label = prediction.target as usize;
                let scored = Scored { logits: &self.logits, label, weight, token_loss };
                let computes = kernel
                    .filter(|kernel| (kernel.of)(&token_loss))
                    .map_or(honest_kernel as _, |kernel| kernel.computes);
                let (part, gradient) = computes(&scored)?;
                loss += part;
                by_logit.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
            }
        }
        let embedding = by_logit.iter().flat_map(|g| self.bias.iter().map(move |b| g * b)).collect();
        let mut bias = vec![0.0; self.bias.len()];
        for (row, g) in self.embedding.chunks_exact(self.bias.len().max(1)).zip(&by_logit) {
            bias.iter_mut().zip(row).for_each(|(sum, w)| *sum += g * w);
        }
        let gradient = Values::from([(EMBEDDING.to_owned(), embedding), (BIAS.to_owned(), bias)]);
        Some(Outcome { loss, gradient })
    }
}

/// Another trainer with the same parameters, which is taken to be right.
pub(super) struct Reference<'a> {
    pub(super) subject: &'a mut dyn Subject,
}

impl Reference<'_> {
    /// `Σ` of the terms and its gradient; `None` where this trainer cannot say it.
    pub(super) fn outcome(
        &mut self,
        kernel: Option<Kernel>,
        terms: &[Term],
    ) -> Result<Option<Outcome>, SubjectError> {
        let mut sum = Outcome::default();
        for term in terms {
            if kernel.is_some_and(|kernel| (kernel.of)(&term.token_loss())) {
                return Ok(None);
            }
            let spec =
                LossSpec { label_smoothing: term.label_smoothing, z_loss: term.z_loss, ..LossSpec::sum() };
            if self.subject.configure(&spec).is_err() {
                return Ok(None);
            }
            if term.weights.iter().any(|weight| weight.is_nan()) {
                return Ok(None);
            }
            let Some(upstream) = self.subject.upstream_weights() else { return Ok(None) };
            let mut sink = Collect::default();
            sum.loss += upstream.backward(&labelled(&term.batch, &term.weights), &term.weights, &mut sink)?;
            for (name, tensor) in sink.into_tensors() {
                let own = sum.gradient.entry(name).or_insert_with(|| vec![0.0; tensor.elements()]);
                own.iter_mut().enumerate().for_each(|(index, value)| *value += tensor.get(index));
            }
        }
        Ok(Some(sum))
    }
}

/// The batch with a label exactly where a prediction weighs something.
fn labelled(batch: &GlobalBatch, weights: &[f64]) -> GlobalBatch {
    let mut rest = weights.iter();
    batch.map_sequences(|sequence| {
        let mut fields = SequenceFields::from(sequence.clone());
        for position in 1..fields.labels.len() {
            let weighs = rest.next().is_some_and(|weight| *weight != 0.0);
            fields.labels[position] = if weighs { i64::from(fields.targets[position]) } else { IGNORE_INDEX };
        }
        // What padding says no trainer scores; such a sequence stays as it was.
        Sequence::from_fields(fields).unwrap_or_else(|_| sequence.clone())
    })
}

/// Names and shapes, as parameters are drawn for them.
pub(super) fn named(parameters: &[ParameterInfo]) -> Vec<(String, Vec<usize>)> {
    parameters.iter().map(|parameter| (parameter.name.clone(), parameter.shape.clone())).collect()
}
