//! What is learnt where it is not the next token: distributions, masked tokens, the continuation of a source.

use crate::{
    Element, Gpt2,
    accumulate::{Accumulated, scalar},
    config::Gpt2Config,
    failure::failed,
    hand_over::HandOver,
    kernels::Kernels,
    loss::Picked,
    rows::Rows,
    subject::Reference,
};
use dfdx::{prelude::*, shapes::Axis};
use lossproof_spec::{LossSpec, Sequence};
use lossproof_subject::{
    Dropout, GradientSink, ObjectiveBatch, ObjectiveKind, Objectives, Observation, SubjectError,
    TrainingBatch,
};

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Gpt2<K, E, D> {
    /// Forward and backward of the mean loss of what is scored, which is not nothing.
    fn learn(
        &mut self,
        rows: &TrainingBatch,
        targets: Option<&[Vec<f64>]>,
    ) -> Result<(Accumulated<E, D>, f64), D::Err> {
        let gradients = self.alloc_gradients()?;
        let tape = self.wte.trace(gradients).split_tape().1;
        let sequences: Vec<&Sequence> = rows.micro_batch().sequences().iter().collect();
        let rows = Rows::of(rows, &Dropout::NONE);
        let losses = match targets {
            Some(targets) => self.losses_to_targets(&rows, &sequences, targets, tape)?,
            None => self.losses_of(&rows, &sequences, &LossSpec::sum(), tape)?,
        };
        let mean: Tensor<Rank0, E, D, _> = losses.try_mean()?;
        let loss = scalar(&mean).widen();
        Ok((Accumulated::of_one(mean.try_backward()?), loss))
    }

    /// The cross-entropy of every supervised token to its distribution: `−Σ_c q_c·log p_c`.
    fn losses_to_targets<T: Tape<E, D>>(
        &self,
        rows: &Rows,
        sequences: &[&Sequence],
        targets: &[Vec<f64>],
        tape: T,
    ) -> Result<Tensor<(usize,), E, D, T>, D::Err> {
        let picked = Picked::new(sequences, rows.width, Sequence::supervises);
        let logits = self.logits(self.hidden(rows, tape)?, picked.into_indices())?;
        let targets = targets.iter().flatten().map(|&probability| E::round(probability)).collect();
        let targets: Vec<E> = targets;
        let targets = logits.device().try_tensor_from_vec(targets, *logits.shape())?;
        logits.try_log_softmax::<Axis<1>>()?.try_mul(targets)?.try_sum::<(usize,), Axis<1>>()?.try_negate()
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Objectives for Reference<K, E, D> {
    fn learns(&mut self, _: ObjectiveKind) -> bool {
        true
    }

    fn learn(
        &mut self,
        batch: &ObjectiveBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        batch.check(&Self::limits())?;
        let scored = batch.scored();
        if scored == 0 {
            return Err(failed(format!("nothing is scored: {} of nothing has no mean", batch.kind())));
        }
        let rows = batch.training_batch().map_err(failed)?;
        let targets = match batch {
            ObjectiveBatch::SoftTargets { targets, .. } => Some(targets.as_slice()),
            _ => None,
        };
        let (mut gradient, loss) = self.model.learn(&rows, targets).map_err(failed)?;
        self.model.visit(&mut HandOver::new(&mut gradient, gradients))?;
        Ok(Observation::new(loss, Some(scored)))
    }
}
