//! The backward pass from given upstream weights: the gradient of any weighted sum of token losses.

use crate::{
    Element, Gpt2,
    accumulate::{Accumulated, scalar, supervised},
    config::Gpt2Config,
    kernels::Kernels,
};
use dfdx::prelude::*;
use lossproof_spec::{GlobalBatch, LossSpec};

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Gpt2<K, E, D> {
    /// Forward and backward of `Σ_t u_t·ℓ_t`, one micro-batch after the other; `weights` holds `u_t` for
    /// every prediction of the batch. The token losses are those of `spec`; the weights are multiplied onto
    /// them, and the products summed.
    pub(crate) fn backward_weighted(
        &mut self,
        batch: &GlobalBatch,
        spec: &LossSpec,
        weights: &[f64],
    ) -> Result<(Accumulated<E, D>, f64), D::Err> {
        let predictions = batch.predictions().zip(weights);
        let mut weights = predictions.filter(|(p, _)| p.supervised).map(|(_, &weight)| E::round(weight));
        let mut gradients = self.alloc_gradients()?;
        let mut loss = 0.0;
        for micro_batch in batch.micro_batches() {
            let own: Vec<E> = weights.by_ref().take(supervised(micro_batch)).collect();
            if own.is_empty() {
                continue;
            }
            let count = (own.len(),);
            let own = self.wte.device().try_tensor_from_vec(own, count)?;
            let tape = self.wte.trace(gradients).split_tape().1;
            let losses = self.supervised_losses(micro_batch, spec, tape)?;
            let sum = losses.try_mul(own)?.try_sum()?;
            loss += scalar(&sum).widen();
            gradients = sum.try_backward()?;
        }
        Ok((Accumulated::of_one(gradients), loss))
    }
}
