//! What is learnt where it is not the next token: distributions, masked tokens, the continuation of a source.

use crate::{
    Failure, dim, objective, padded::Padded, parameters::gradients, subject::Torch, threads::OneThread,
};
use lossproof_spec::{IGNORE_INDEX, LossSpec};
use lossproof_subject::{
    Dropout, GradientSink, ObjectiveBatch, ObjectiveKind, Objectives, Observation, SubjectError,
};
use tch::{Reduction, Tensor};

impl Torch {
    /// The mean loss, and its gradient in the order of the parameters, `None` where no loss reached one.
    fn learnt(&self, batch: &ObjectiveBatch) -> Result<(f64, Vec<Option<Tensor>>), Failure> {
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let rows = batch.training_batch().map_err(|error| Failure::new(error.to_string()))?;
        let padded = Padded::training(&rows, &Dropout::NONE);
        let leaves = self.parameters.replica()?;
        let logits = self.model(&leaves)?.logits(&padded)?;
        let loss = match batch {
            ObjectiveBatch::SoftTargets { targets, .. } => mean_to_targets(&logits, &padded, targets)?,
            _ => objective::mean(&LossSpec::token_mean(), &logits, &padded)?,
        };
        loss.f_backward()?;
        Ok((loss.f_double_value(&[])?, gradients(&leaves)?))
    }
}

/// The mean of the cross-entropies to distributions, by libtorch's own loss with class probabilities. That knows no
/// ignore index, so the predictions that are not scored are left out before it.
fn mean_to_targets(logits: &Tensor, batch: &Padded, targets: &[Vec<f64>]) -> Result<Tensor, Failure> {
    let scored = (0_i64..).zip(batch.labels()).filter(|&(_, &label)| label != IGNORE_INDEX);
    let places: Vec<i64> = scored.map(|(place, _)| place).collect();
    let places = Tensor::f_from_slice(&places)?.f_to_device(logits.device())?;
    let targets = Tensor::f_from_slice(&targets.concat())?
        .f_view([dim(targets.len()), -1])?
        .f_to_kind(logits.f_kind()?)?
        .f_to_device(logits.device())?;
    let scored = logits.f_index_select(0, &places)?;
    Ok(scored.f_cross_entropy_loss(&targets, None::<&Tensor>, Reduction::Mean, IGNORE_INDEX, 0.0)?)
}

impl Objectives for Torch {
    fn learns(&mut self, _: ObjectiveKind) -> bool {
        true
    }

    fn learn(
        &mut self,
        batch: &ObjectiveBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        batch.check(&self.limits())?;
        let scored = batch.scored();
        if scored == 0 {
            return Err(
                Failure::new(format!("nothing is scored: {} of nothing has no mean", batch.kind())).into()
            );
        }
        let (loss, tensors) = self.learnt(batch)?;
        self.hand_over(tensors, gradients)?;
        Ok(Observation::new(loss, Some(scored)))
    }
}
