//! Clause 1.8: the loss of a distribution is the sum over tokens of their probability times their loss.

use super::influences;
use crate::trial::{CaseOutcome, Computed, Ended, Trial};
use lossproof_cases::edit::relabel;
use lossproof_spec::{MicroBatch, Sequence};
use lossproof_subject::ObjectiveBatch;
use rand::RngExt;

/// What the three labels of a mixture weigh, the last a 128th; exact in every element type.
const SHARES: [f64; 3] = [0.625, 0.367_187_5, 0.007_812_5];

/// Above so many tokens of the vocabulary, distributions over all of it are not made.
const LARGEST_VOCABULARY: usize = 1 << 18;

/// Above so many probabilities in a batch they are not made either.
const MOST_PROBABILITIES: usize = 1 << 24;

/// A mixture of labels is the mixture of their losses and gradients, and what lies between two distributions is
/// between theirs: mass arrives as it is given, and the mean is over targets.
pub(crate) fn soft_targets(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.facts.info.limits.free_labels {
        return Err(Ended::Unsupported("labels that are not its tokens".to_owned()));
    }
    let vocabulary = trial.vocabulary();
    if vocabulary > LARGEST_VOCABULARY {
        return Err(Ended::Unsupported(format!("a vocabulary of at most {LARGEST_VOCABULARY} tokens")));
    }
    let mut micro_batches = trial.case.batch.micro_batches();
    let supervised = |micro_batch: &&MicroBatch| tokens_of(micro_batch) > 0;
    let Some(micro_batch) = micro_batches.find(supervised).cloned() else { return Ok(false) };
    let tokens = tokens_of(&micro_batch);
    if tokens.saturating_mul(vocabulary) > MOST_PROBABILITIES {
        return Err(Ended::NotApplicable);
    }

    let mut mixture = vec![vec![0.0; vocabulary]; tokens];
    let mut parts: Vec<(f64, Computed)> = Vec::new();
    for share in SHARES {
        let labels: Vec<usize> = (0..tokens).map(|_| trial.random.random_range(0..vocabulary)).collect();
        for (target, &label) in mixture.iter_mut().zip(&labels) {
            target[label] += share;
        }
        let (factor, computed) = trial.hard(&labelled(&micro_batch, &labels))?;
        parts.push((share * factor, computed));
    }
    let batch_of = |targets| ObjectiveBatch::SoftTargets { micro_batch: micro_batch.clone(), targets };
    let mixed = batch_of(mixture.clone());
    let batch = influences(&mixed);
    let of_mixture = trial.learn(&mixed)?;
    let parts: Vec<_> = parts.iter().map(|(factor, part)| (*factor, part)).collect();
    trial.combination("three labels as one distribution", &batch, &of_mixture, &parts, &[]);

    let spread: Vec<Vec<f64>> = (0..tokens).map(|_| distribution(trial, vocabulary)).collect();
    let middle = |(one, other): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
        one.iter().zip(other).map(|(one, other)| 0.5 * one + 0.5 * other).collect()
    };
    let between = spread.iter().zip(&mixture).map(middle).collect();
    let entropy = spread.iter().map(|target| entropy(target)).sum::<f64>() / tokens as f64;
    let of_spread = trial.learn(&batch_of(spread))?;
    // No model is nearer to a distribution than itself, so that no part of it can be left out.
    let least = entropy - trial.loss_bound(&batch) * of_spread.loss_scale().max(entropy);
    trial.fact("cross-entropy above entropy", of_spread.loss() >= least, || {
        format!("a cross-entropy of {} nats to distributions with an entropy of {entropy}", of_spread.loss())
    });
    let of_middle = trial.learn(&batch_of(between))?;
    let halves = [(0.5, &of_spread), (0.5, &of_mixture)];
    trial.combination("between two distributions", &batch, &of_middle, &halves, &[]);
    Ok(vocabulary > 1)
}

fn tokens_of(micro_batch: &MicroBatch) -> usize {
    micro_batch.sequences().iter().map(Sequence::supervised).sum()
}

/// The micro-batch with these labels where a token is supervised, in order.
fn labelled(micro_batch: &MicroBatch, labels: &[usize]) -> MicroBatch {
    let mut labels = labels.iter();
    super::micro_batch_of(micro_batch.sequences().iter().map(|sequence| {
        relabel(sequence, |fields, at| {
            let label = if fields.labels[at] >= 0 { labels.next() } else { None };
            label.and_then(|&label| u32::try_from(label).ok())
        })
    }))
}

fn entropy(target: &[f64]) -> f64 {
    -target.iter().filter(|&&p| p > 0.0).map(|p| p * p.ln()).sum::<f64>()
}

/// A distribution that gives every token something.
fn distribution(trial: &mut Trial<'_>, vocabulary: usize) -> Vec<f64> {
    let weights: Vec<f64> = (0..vocabulary).map(|_| trial.random.random_range(0.125..1.0)).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}
