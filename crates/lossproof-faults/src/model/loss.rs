//! From hidden states to a weighted sum of token losses and its gradient.

use super::{
    PaddedRows, Real,
    operators::{Target, add, dot},
    passes::Forward,
    real,
    transformer::Transformer,
};
use crate::{names::EMBEDDING, tensors::NamedTensors};
use lossproof_spec::{GlobalBatch, LossSpec, Prediction};

/// `Σ_t u_t·ℓ_t` and its gradient.
pub(super) struct Weighted<T> {
    pub(super) loss: T,
    /// The loss of each supervised token, in order.
    pub(super) token_losses: Vec<T>,
    pub(super) gradient: NamedTensors<T>,
}

impl Weighted<f32> {
    /// The same in f64.
    pub(super) fn widened(self) -> Weighted<f64> {
        Weighted {
            loss: self.loss.into(),
            token_losses: self.token_losses.into_iter().map(f64::from).collect(),
            gradient: self.gradient.map(f64::from),
        }
    }
}

impl<T: Real> Transformer<'_, T> {
    /// The loss of every prediction of a batch, ignored ones included: the plain cross-entropy.
    pub(super) fn evaluate(&self, batch: &GlobalBatch) -> Vec<T> {
        let mut losses = Vec::new();
        for micro_batch in batch.micro_batches() {
            let own = GlobalBatch::of_micro_batch(micro_batch.clone());
            let forward = self.forward(PaddedRows::new(micro_batch));
            let loss = |p: Prediction| self.score(&forward, p, 0.0, 0.0).0;
            losses.extend(own.predictions().map(loss));
        }
        losses
    }

    /// Forward and backward, one micro-batch after the other, `weights` holding `u_t` for every prediction.
    pub(super) fn weighted(&self, batch: &GlobalBatch, spec: &LossSpec, weights: &[f64]) -> Weighted<T> {
        let gradient = self.parameters.map(|_| T::zero());
        let mut sum = Weighted { loss: T::zero(), token_losses: Vec::new(), gradient };
        let mut rest = weights;
        for micro_batch in batch.micro_batches() {
            let own = GlobalBatch::of_micro_batch(micro_batch.clone());
            let (weights, others) = rest.split_at(own.predictions().count());
            rest = others;
            let supervised = own.predictions().zip(weights).filter(|(p, _)| p.supervised);
            let mut supervised = supervised.peekable();
            if supervised.peek().is_none() {
                continue;
            }
            let forward = self.forward(PaddedRows::new(micro_batch));
            let mut of_hidden = vec![T::zero(); forward.hidden().len()];
            let (table, columns) = (self.parameters.of(EMBEDDING), self.shape.width);
            let of_table = sum.gradient.of_mut(EMBEDDING);
            for (prediction, &weight) in supervised {
                let weight = real::<T>(weight);
                let (loss, of_logits) = self.score(&forward, prediction, spec.label_smoothing, spec.z_loss);
                sum.loss += weight * loss;
                sum.token_losses.push(loss);
                let place = self.place(&forward, prediction);
                let hidden = &forward.hidden()[place..place + columns];
                let of_hidden = &mut of_hidden[place..place + columns];
                let rows = table.chunks_exact(columns).zip(of_table.chunks_exact_mut(columns));
                for (&of_logit, (row, of_row)) in of_logits.iter().zip(rows) {
                    add(of_row, weight * of_logit, hidden);
                    add(of_hidden, weight * of_logit, row);
                }
            }
            self.backward(&forward, of_hidden, &mut sum.gradient);
        }
        sum
    }

    /// Where the hidden state that makes a prediction starts.
    fn place(&self, forward: &Forward<T>, prediction: Prediction) -> usize {
        (prediction.sequence * forward.rows.width + prediction.position) * self.shape.width
    }

    /// The loss of one prediction, and its gradient with respect to the logits.
    fn score(
        &self,
        forward: &Forward<T>,
        prediction: Prediction,
        label_smoothing: f64,
        z_loss: f64,
    ) -> (T, Vec<T>) {
        let hidden = &forward.hidden()[self.place(forward, prediction)..][..self.shape.width];
        let head = self.parameters.of(EMBEDDING).chunks_exact(self.shape.width);
        let logits: Vec<T> = head.map(|row| dot(row, hidden)).collect();
        let target = Target { label: prediction.target as usize, label_smoothing, z_loss };
        (self.operators.cross_entropy)(&logits, &target)
    }
}
