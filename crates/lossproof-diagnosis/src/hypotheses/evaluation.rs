//! Validation: what is printed of a corpus, and what it leaves behind.

use super::{HONEST, Hypothesis, hypothesis};
use crate::{trainer_model::TrainerModel, validation::honest};
use lossproof_subject::Evaluated;

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis(
        "ppl-average-of-batch-averages",
        TrainerModel {
            validate: Some(|corpus| {
                let sequences: usize = corpus.iter().map(Vec::len).sum();
                let of = |batch: &Vec<Vec<f64>>| {
                    let tokens: usize = batch.iter().map(Vec::len).sum();
                    let sum: f64 = batch.iter().flatten().sum();
                    if tokens > 0 { sum / tokens as f64 * batch.len() as f64 } else { 0.0 }
                };
                let mean = corpus.iter().map(of).sum::<f64>() / sequences as f64;
                Evaluated { perplexity: mean.exp(), ..honest(corpus) }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "ppl-mean-of-exp",
        TrainerModel {
            validate: Some(|corpus| {
                let printed = honest(corpus);
                let sum: f64 = corpus.iter().flatten().flatten().map(|loss| loss.exp()).sum();
                Evaluated { perplexity: sum / printed.tokens as f64, ..printed }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "perplexity-wrong-base",
        TrainerModel {
            validate: Some(|corpus| {
                let printed = honest(corpus);
                Evaluated { perplexity: printed.loss.exp2(), ..printed }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "eval-batch-misweighted",
        TrainerModel {
            validate: Some(|corpus| {
                let mut filled = corpus.to_vec();
                let all: Vec<Vec<f64>> = corpus.iter().flatten().cloned().collect();
                if let (Some(first), Some(last)) = (corpus.first(), filled.last_mut()) {
                    last.extend(all.into_iter().take(first.len().saturating_sub(last.len())));
                }
                honest(&filled)
            }),
            ..HONEST
        },
    ),
    hypothesis("val-loss-leaks-into-train-buffer", TrainerModel { leaks: true, ..HONEST }),
];
