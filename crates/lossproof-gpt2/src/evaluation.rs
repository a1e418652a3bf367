//! Validation: the spec's perplexity of the model's token losses.

use crate::{Element, config::Gpt2Config, failure::failed, kernels::Kernels, subject::Reference};
use lossproof_spec::{GlobalBatch, MicroBatch, Perplexity};
use lossproof_subject::{Evaluated, Evaluation, SubjectError, TokenLosses};

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Evaluation for Reference<K, E, D> {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let mut perplexity = Perplexity::default();
        let mut tokens = 0;
        for batch in batches {
            let batch = GlobalBatch::of_micro_batch(batch.clone());
            let losses = self.evaluate(&batch)?;
            let supervised = batch.predictions().zip(losses).filter(|(prediction, _)| prediction.supervised);
            let losses: Vec<f64> = supervised.map(|(_, loss)| loss).collect();
            perplexity.add(&losses).map_err(failed)?;
            tokens += losses.len();
        }
        Ok(Evaluated {
            loss: perplexity.mean_loss().unwrap_or(f64::NAN),
            perplexity: perplexity.value().unwrap_or(f64::NAN),
            tokens,
        })
    }
}
