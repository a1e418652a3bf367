//! The backward pass from a given upstream gradient.

use crate::{Failure, objective, padded::Padded, parameters::gradients, subject::Torch, threads::OneThread};
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, MicroBatch};
use lossproof_subject::{GradientSink, SubjectError, UpstreamWeights};
use tch::Tensor;

impl Torch {
    /// `Σ_t u_t·ℓ_t` and its gradient in the order of the parameters, `None` where no loss reached one.
    fn weighted_sum(
        &self,
        batch: &GlobalBatch,
        weights: &[f64],
    ) -> Result<(f64, Vec<Option<Tensor>>), Failure> {
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let leaves = self.parameters.replica()?;
        let model = self.model(&leaves)?;
        let mut total = 0.0;
        let mut rest = weights;
        for micro_batch in batch.micro_batches() {
            let padded = Padded::supervised(micro_batch);
            let weights = rectangle(micro_batch, &padded, &mut rest);
            let logits = model.logits(&padded)?;
            let weights =
                Tensor::f_from_slice(&weights)?.f_to_kind(logits.f_kind()?)?.f_to_device(logits.device())?;
            let losses = objective::token_losses(&self.spec, &logits, &padded)?;
            let sum = losses.f_mul(&weights)?.f_sum(None)?;
            sum.f_backward()?;
            total += sum.f_double_value(&[])?;
        }
        Ok((total, gradients(&leaves)?))
    }
}

/// The weights of a micro-batch for the predictions of `padded`, zero where none is scored. `rest` begins
/// with them, and is left with those of the micro-batches after it.
fn rectangle(micro_batch: &MicroBatch, padded: &Padded, rest: &mut &[f64]) -> Vec<f64> {
    let mut weights = Vec::with_capacity(padded.labels().len());
    for (sequence, row) in micro_batch.sequences().iter().zip(1..) {
        let (own, others) = rest.split_at(sequence.len() - 1);
        *rest = others;
        weights.extend(own);
        weights.resize(row * (padded.width() - 1), 0.0);
    }
    for (weight, &label) in weights.iter_mut().zip(padded.labels()) {
        if label == IGNORE_INDEX {
            *weight = 0.0;
        }
    }
    weights
}

impl UpstreamWeights for Torch {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        self.limits().check(batch)?;
        let predictions = batch.layout().predictions();
        if weights.len() != predictions {
            return Err(Failure::new(format!(
                "{} upstream weights for {predictions} predictions: give one for each, in the order of the predictions \
                 and also where the label is ignored",
                weights.len()
            ))
            .into());
        }
        let (sum, tensors) = self.weighted_sum(batch, weights)?;
        self.hand_over(tensors, gradients)?;
        Ok(sum)
    }
}
