//! What a validation reports.

use crate::{
    Corpus, RunError, Settings,
    plan::{count, whole},
    ranks::{Gathered, Ranks},
    sampler::{Cut, EpochSample, GlobalMicroBatch},
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
    epoch: u32,
    ranks_of_run: &mut dyn Ranks,
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
    let mut here = Vec::new();
    for rank in ranks_of_run.here(settings.ranks) {
        here.push(losses_of_rank(trainer, corpus, &micro_batches, rank, epoch)?);
    }
    let everywhere = ranks_of_run.gather(Gathered::Validation, here)?;
    let mut of_rank: Vec<&[f64]> = everywhere.iter().map(Vec::as_slice).collect();
    for (number, ranks) in micro_batches.iter().enumerate() {
        let mut step = Vec::new();
        for (number, rank) in ranks.iter().enumerate().filter(|(_, rank)| !rank.is_empty()) {
            let losses = of_rank.get_mut(number).and_then(next_list).ok_or_else(|| RunError::Rank {
                rank: number,
                what: "has not evaluated all of its batches".to_owned(),
            })?;
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
    if let Some(rank) = of_rank.iter().position(|rest| !rest.is_empty()) {
        let what = "has evaluated more than its batches".to_owned();
        return Err(RunError::Rank { rank, what });
    }
    let loss = match semantics.evaluation {
        EvaluationMean::Tokens => all.value() / tokens as f64,
        EvaluationMean::GatheredRepeats => gathered.iter().sum::<f64>() / gathered.len() as f64,
    };
    Ok(Validation { loss, perplexity: loss.exp(), tokens })
}

/// The validation samples under every reduction, in evaluation mode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reductions {
    /// Supervised tokens.
    pub tokens: u64,
    /// Samples with a supervised token.
    pub samples: u64,
    /// Batches with a supervised token, as a validation has them.
    pub batches: u64,
    /// The sum of the token losses.
    pub sum: f64,
    /// The mean over all supervised tokens; its exponential is the perplexity.
    pub token_mean: f64,
    /// The mean over samples of each one's token mean.
    pub sequence_mean: f64,
    /// The sum divided by the number of samples.
    pub batch_mean: f64,
    /// The mean over batches of each one's token mean.
    pub mean_of_means: f64,
}

/// The validation samples of a corpus under every reduction; means of nothing are NaN.
///
/// # Errors
/// When the trainer fails, or a sample makes no sequence.
pub fn reductions(
    trainer: &mut dyn LoopTrainer,
    corpus: &dyn Corpus,
    settings: &Settings,
) -> Result<Reductions, RunError> {
    let [mut sum, mut of_samples, mut of_batches] = [CompensatedSum::default(); 3];
    let (mut tokens, mut samples, mut batches) = (0, 0, 0);
    let indices: Vec<usize> = (0..corpus.validation_samples()).collect();
    for batch in indices.chunks(settings.evaluation_batch) {
        let rows: Vec<_> =
            batch.iter().map(|&index| corpus.validation(index, 0)).collect::<Result<_, _>>()?;
        let supervised: Vec<usize> = rows.iter().map(|row| row.sequence.supervised()).collect();
        let losses = trainer.supervised_losses(&TrainingBatch::new(rows)?)?;
        let mut rest = losses.as_slice();
        for own in supervised.into_iter().filter(|&own| own > 0) {
            let (of_sample, others) = rest.split_at(own);
            of_samples.add(of_sample.iter().sum::<f64>() / own as f64);
            samples += 1;
            rest = others;
        }
        if !losses.is_empty() {
            of_batches.add(losses.iter().sum::<f64>() / losses.len() as f64);
            batches += 1;
        }
        tokens += count(losses.len());
        sum.extend(losses);
    }
    let total = sum.value();
    Ok(Reductions {
        tokens,
        samples,
        batches,
        sum: total,
        token_mean: total / tokens as f64,
        sequence_mean: of_samples.value() / samples as f64,
        batch_mean: total / samples as f64,
        mean_of_means: of_batches.value() / batches as f64,
    })
}

/// What one rank evaluates: of each batch with samples the number of losses, and the losses.
fn losses_of_rank(
    trainer: &mut dyn LoopTrainer,
    corpus: &dyn Corpus,
    micro_batches: &[GlobalMicroBatch],
    rank: usize,
    epoch: u32,
) -> Result<Vec<f64>, RunError> {
    let mut numbers = Vec::new();
    for samples in micro_batches.iter().filter_map(|ranks| ranks.get(rank)).filter(|own| !own.is_empty()) {
        let losses = losses(trainer, corpus, samples, epoch)?;
        numbers.push(losses.len() as f64);
        numbers.extend(losses);
    }
    Ok(numbers)
}

/// The next list of numbers, which its length stands before.
fn next_list<'a>(rest: &mut &'a [f64]) -> Option<&'a [f64]> {
    let (length, others) = rest.split_first()?;
    let (list, others) = others.split_at_checked(whole(*length))?;
    *rest = others;
    Some(list)
}

fn losses(
    trainer: &mut dyn LoopTrainer,
    corpus: &dyn Corpus,
    rank: &[EpochSample],
    epoch: u32,
) -> Result<Vec<f64>, RunError> {
    let samples: Vec<_> =
        rank.iter().map(|sample| corpus.validation(sample.index, epoch)).collect::<Result<_, _>>()?;
    Ok(trainer.supervised_losses(&TrainingBatch::new(samples)?)?)
}
