//! Validation, by libtorch's own sum over what is not ignored.

use crate::{Failure, objective, padded::Padded, subject::Torch, threads::OneThread};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch};
use lossproof_subject::{Evaluated, Evaluation, SubjectError};

impl Torch {
    /// The sum of the token losses of one batch and how many there are.
    fn summed(&self, batch: &MicroBatch) -> Result<(f64, usize), Failure> {
        let _no_graph = tch::no_grad_guard();
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let padded = Padded::supervised(batch);
        let logits = self.model(self.parameters.tensors())?.logits(&padded)?;
        let sum = objective::sum(&LossSpec::sum(), &logits, &padded)?;
        Ok((sum.f_double_value(&[])?, padded.scored().sum()))
    }
}

impl Evaluation for Torch {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let (mut total, mut tokens) = (0.0, 0);
        for batch in batches {
            self.limits().check(&GlobalBatch::of_micro_batch(batch.clone()))?;
            let (sum, count) = self.summed(batch)?;
            total += sum;
            tokens += count;
        }
        let loss = total / tokens as f64;
        Ok(Evaluated { loss, perplexity: loss.exp(), tokens })
    }
}
