//! Validation: what is printed of a corpus, and what it leaves behind.

use super::{Hypothesis, hypothesis};
use crate::validation::honest;
use lossproof_subject::Evaluated;

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis!(
        "ppl-average-of-batch-averages",
        "perplexity weights the mean of each batch by its sequences, not by its tokens",
        Some("keras-team/keras-hub#2958, facebookresearch/ParlAI#623, apache/mxnet#5905"),
        "exponentiate the sum of all token losses over their number",
        { validate: |corpus| {
            let sequences: usize = corpus.iter().map(Vec::len).sum();
            let of = |batch: &Vec<Vec<f64>>| {
                let tokens: usize = batch.iter().map(Vec::len).sum();
                let sum: f64 = batch.iter().flatten().sum();
                if tokens > 0 { sum / tokens as f64 * batch.len() as f64 } else { 0.0 }
            };
            let mean = corpus.iter().map(of).sum::<f64>() / sequences as f64;
            Evaluated { perplexity: mean.exp(), ..honest(corpus) }
        } }
    ),
    hypothesis!(
        "ppl-mean-of-exp",
        "the losses of the tokens are exponentiated first and averaged then",
        Some("magenta/magenta#239, alexiglad/EBT#3"),
        "average first, exponentiate once",
        { validate: |corpus| {
            let printed = honest(corpus);
            let sum: f64 = corpus.iter().flatten().flatten().map(|loss| loss.exp()).sum();
            Evaluated { perplexity: sum / printed.tokens as f64, ..printed }
        } }
    ),
    hypothesis!(
        "perplexity-wrong-base",
        "perplexity is 2 to the power of a loss in nats",
        None,
        "exp of nats, or 2 to the power of bits",
        { validate: |corpus| {
            let printed = honest(corpus);
            Evaluated { perplexity: printed.loss.exp2(), ..printed }
        } }
    ),
    hypothesis!(
        "eval-batch-misweighted",
        "the last, smaller batch is filled with samples from the start, which are scored again",
        Some("huggingface/transformers#41898, #16716; mosaicml/composer#2218"),
        "weight by real tokens, and drop the samples that fill a batch",
        { validate: |corpus| {
            let mut filled = corpus.to_vec();
            let all: Vec<Vec<f64>> = corpus.iter().flatten().cloned().collect();
            if let (Some(first), Some(last)) = (corpus.first(), filled.last_mut()) {
                last.extend(all.into_iter().take(first.len().saturating_sub(last.len())));
            }
            honest(&filled)
        } }
    ),
    hypothesis!(
        "val-loss-leaks-into-train-buffer",
        "training adds its loss to a buffer that the validation has added to and not cleared",
        Some("karpathy/llm.c@d2f06ae, NVIDIA/Megatron-LM#6237"),
        "give every measurement an accumulator of its own, or clear it when the phase changes",
        { leaks: true }
    ),
];
