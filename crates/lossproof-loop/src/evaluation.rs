//! What a validation reports.

use crate::{
    Corpus, Settings,
    plan::count,
    run::RunError,
    sampler::{Cut, EpochSample},
    semantics::{EvaluationMean, Shards, Tracking},
};
use lossproof_spec::CompensatedSum;
use lossproof_subject::{LoopTrainer, TrainingBatch};
use serde::{Deserialize, Serialize};

/// What a validation reports.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// The mean loss in nats, as declared; NaN without a supervised token.
    #[serde(with = "lossproof_trace::number::any")]
    pub loss: f64,
    /// `exp` of it; infinite where that is too large for f64.
    #[serde(with = "lossproof_trace::number::any")]
    pub perplexity: f64,
    /// Supervised tokens that were scored, those of samples that came twice included.
    pub tokens: u64,
}

/// Evaluates the validation samples of a corpus, in their order and in evaluation mode.
pub(crate) fn validate(
    trainer: &mut dyn LoopTrainer,
    corpus: &dyn Corpus,
    settings: &Settings,
) -> Result<Validation, RunError> {
    let samples = corpus.validation_samples();
    let semantics = settings.semantics;
    let shards = match semantics.evaluation {
        EvaluationMean::Tokens => Shards::EverySampleOnce,
        EvaluationMean::GatheredRepeats => Shards::FilledUp,
    };
    let cut = Cut { batch: settings.evaluation_batch, ranks: settings.ranks, shards };
    let order: Vec<usize> = (0..samples).collect();
    let (mut all, mut tokens) = (CompensatedSum::default(), 0);
    let mut gathered = Vec::new();
    let micro_batches = cut.micro_batches(&order);
    let last = micro_batches.len().saturating_sub(1);
    for (number, ranks) in micro_batches.iter().enumerate() {
        let mut step = Vec::new();
        for rank in ranks.iter().filter(|rank| !rank.is_empty()) {
            let losses = losses(trainer, corpus, rank)?;
            all.extend(losses.iter().copied());
            tokens += count(losses.len());
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            // Before #41904 the configured size of a batch, since then its own.
            let repeats = match semantics.tracking {
                Tracking::MeansOverWholeEpoch => settings.evaluation_batch,
                Tracking::Tokens | Tracking::SamplesOfFirstRank => rank.len(),
            };
            step.extend(std::iter::repeat_n(mean, repeats));
        }
        let remainder = samples % (settings.evaluation_batch * settings.ranks);
        if number == last && remainder > 0 {
            step.truncate(remainder);
        }
        gathered.extend(step);
    }
    let loss = match semantics.evaluation {
        EvaluationMean::Tokens => all.value() / tokens as f64,
        EvaluationMean::GatheredRepeats => gathered.iter().sum::<f64>() / gathered.len() as f64,
    };
    Ok(Validation { loss, perplexity: loss.exp(), tokens })
}

fn losses(
    trainer: &mut dyn LoopTrainer,
    corpus: &dyn Corpus,
    rank: &[EpochSample],
) -> Result<Vec<f64>, RunError> {
    let samples: Vec<_> = rank.iter().map(|sample| corpus.validation(sample.index)).collect::<Result<_, _>>()?;
    Ok(trainer.supervised_losses(&TrainingBatch::new(samples)?)?)
}
