//! Validation: what is printed of a corpus, and what it leaves behind.

use crate::{Family, Fault, trainer::Trainer};
use lossproof_spec::{GlobalBatch, MicroBatch};
use lossproof_subject::Evaluated;

const HONEST: Trainer = Trainer::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        id: "ppl-average-of-batch-averages",
        family: Family::Logging,
        what: "perplexity weights the mean of each batch by its sequences, not by its tokens",
        source: Some("keras-team/keras-hub#2958, facebookresearch/ParlAI#623, apache/mxnet#5905"),
        clauses: &["8.1", "8.4", "8.6"],
        trainer: Trainer {
            validate: |honest, batches| {
                let mut printed = honest.validate(batches)?;
                let (mut total, mut sequences) = (0.0, 0);
                for batch in batches {
                    let own = honest.validate(std::slice::from_ref(batch))?;
                    // The mean of nothing is guarded against, and taken for zero.
                    let mean = if own.tokens > 0 { own.loss } else { 0.0 };
                    total += mean * batch.sequences().len() as f64;
                    sequences += batch.sequences().len();
                }
                if printed.tokens > 0 {
                    printed.perplexity = (total / sequences as f64).exp();
                }
                Ok(printed)
            },
            ..HONEST
        },
    },
    Fault {
        id: "ppl-mean-of-exp",
        family: Family::Logging,
        what: "the losses of the tokens are exponentiated first and averaged then",
        source: Some("magenta/magenta#239, alexiglad/EBT#3"),
        clauses: &["8.1"],
        trainer: Trainer {
            validate: |honest, batches| {
                let mut printed = honest.validate(batches)?;
                let mut total = 0.0;
                for batch in batches.iter().cloned().map(GlobalBatch::of_micro_batch) {
                    let losses = honest.evaluate(&batch)?;
                    let supervised = batch.predictions().zip(losses).filter(|(p, _)| p.supervised);
                    total += supervised.map(|(_, loss)| loss.exp()).sum::<f64>();
                }
                printed.perplexity = total / printed.tokens as f64;
                Ok(printed)
            },
            ..HONEST
        },
    },
    Fault {
        id: "perplexity-wrong-base",
        family: Family::Logging,
        what: "perplexity is 2 to the power of a loss in nats",
        source: None,
        clauses: &["8.1", "8.3", "8.7"],
        trainer: Trainer {
            validate: |honest, batches| {
                let printed = honest.validate(batches)?;
                Ok(Evaluated { perplexity: printed.loss.exp2(), ..printed })
            },
            ..HONEST
        },
    },
    Fault {
        id: "eval-batch-misweighted",
        family: Family::Logging,
        what: "the last, smaller batch is filled with samples from the start, which are scored again",
        source: Some("huggingface/transformers#41898, #16716; mosaicml/composer#2218"),
        clauses: &["8.2", "8.4"],
        trainer: Trainer { validate: |honest, batches| honest.validate(&filled(batches)), ..HONEST },
    },
    Fault {
        id: "val-loss-leaks-into-train-buffer",
        family: Family::Logging,
        what: "training adds its loss to a buffer that the validation has added to and not cleared",
        source: Some("karpathy/llm.c@d2f06ae, NVIDIA/Megatron-LM#6237"),
        clauses: &["8.5"],
        trainer: Trainer {
            validate: |honest, batches| {
                let printed = honest.validate(batches)?;
                if printed.tokens > 0 {
                    honest.memory.validated += printed.loss;
                }
                Ok(printed)
            },
            accumulate: |honest, spec, batch| {
                let mut pass = honest.pass(spec, batch)?;
                pass.observation.loss += std::mem::take(&mut honest.memory.validated);
                Ok(pass)
            },
            ..HONEST
        },
    },
];

/// The batches, the last as large as the first.
fn filled(batches: &[MicroBatch]) -> Vec<MicroBatch> {
    let mut filled = batches.to_vec();
    if let (Some(first), Some(last)) = (batches.first(), filled.last_mut()) {
        let corpus = batches.iter().flat_map(MicroBatch::sequences);
        let missing = first.sequences().len().saturating_sub(last.sequences().len());
        let sequences = last.sequences().iter().chain(corpus.take(missing)).cloned().collect();
        *last = MicroBatch::new(sequences).expect("invariant: the last batch has sequences");
    }
    filled
}
