//! Validation: what is printed of a corpus, and what it leaves behind.

use crate::{Fault, fault, trainer::TrainerParts};
use lossproof_spec::{GlobalBatch, MicroBatch};
use lossproof_subject::Evaluated;

const HONEST: TrainerParts = TrainerParts::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "ppl-average-of-batch-averages",
        TrainerParts {
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
    ),
    fault(
        "ppl-mean-of-exp",
        TrainerParts {
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
    ),
    fault(
        "perplexity-wrong-base",
        TrainerParts {
            validate: |honest, batches| {
                let printed = honest.validate(batches)?;
                Ok(Evaluated { perplexity: printed.loss.exp2(), ..printed })
            },
            ..HONEST
        },
    ),
    fault(
        "eval-batch-misweighted",
        TrainerParts { validate: |honest, batches| honest.validate(&filled(batches)), ..HONEST },
    ),
    fault(
        "val-loss-leaks-into-train-buffer",
        TrainerParts {
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
    ),
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
