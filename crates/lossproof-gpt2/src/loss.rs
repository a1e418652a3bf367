//! Token losses and their reductions, each written the way a trainer writes it: a mean is the mean of what is there.

use crate::{
    Element, Gpt2,
    config::Gpt2Config,
    kernels::{Kernels, Modified},
    rows::Rows,
};
use dfdx::prelude::*;
use lossproof_spec::{LossSpec, Reduction, Scope, Sequence};

/// The predictions of some sequences that are to be scored: flat index into the rows, and the token that follows.
pub(crate) struct Picked {
    indices: Vec<usize>,
    targets: Vec<usize>,
}

impl Picked {
    /// Those predictions of `sequences` for which `scored(sequence, position)` holds, in order.
    pub(crate) fn new(
        sequences: &[&Sequence],
        width: usize,
        mut scored: impl FnMut(&Sequence, usize) -> bool,
    ) -> Self {
        let mut picked = Self { indices: Vec::new(), targets: Vec::new() };
        for (row, sequence) in sequences.iter().enumerate() {
            for position in 0..sequence.len() - 1 {
                if scored(sequence, position) {
                    picked.indices.push(row * width + position);
                    picked.targets.push(sequence.targets()[position + 1] as usize);
                }
            }
        }
        picked
    }

    /// The flat indices alone, where it is not a token that they are scored against.
    pub(crate) fn into_indices(self) -> Vec<usize> {
        self.indices
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Gpt2<K, E, D> {
    /// The loss of each picked prediction: cross-entropy, smoothed and with z-loss where asked for.
    pub(crate) fn token_losses<T: Tape<E, D>>(
        &self,
        rows: &Rows,
        picked: Picked,
        modified: Modified,
        tape: T,
    ) -> Result<Tensor<(usize,), E, D, T>, D::Err> {
        let logits = self.logits(self.hidden(rows, tape)?, picked.indices)?;
        D::cross_entropy(logits, picked.targets, modified)
    }
}

/// What a trainer counts over the scope of its normaliser before it divides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Supervised tokens.
    pub(crate) tokens: usize,
    /// Sequences.
    pub(crate) sequences: usize,
}

/// The loss of one micro-batch from its token losses (in order, `per_sequence` of them for each sequence, at least one
/// in all) and the counts of a scope wider than the micro-batch.
pub(crate) fn reduce<E: Element, D: Device<E>>(
    losses: Tensor<(usize,), E, D, OwnedTape<E, D>>,
    per_sequence: &[usize],
    spec: &LossSpec,
    counts: Counts,
) -> Result<Tensor<Rank0, E, D, OwnedTape<E, D>>, D::Err> {
    let divide = |loss: Tensor<Rank0, E, D, OwnedTape<E, D>>, by: usize| loss.try_div(E::round(by as f64));
    match (spec.reduction, spec.scope) {
        (Reduction::Sum, _) => losses.try_sum(),
        (Reduction::TokenMean, Scope::MicroBatch) => losses.try_mean(),
        (Reduction::TokenMean, Scope::RankWindow | Scope::Global) => divide(losses.try_sum()?, counts.tokens),
        (Reduction::SequenceMean, _) => {
            divide(sum_of_sequence_means(losses, per_sequence)?, counts.sequences)
        }
        (Reduction::BatchMean, _) => divide(losses.try_sum()?, counts.sequences),
    }
}

fn sum_of_sequence_means<E: Element, D: Device<E>>(
    losses: Tensor<(usize,), E, D, OwnedTape<E, D>>,
    per_sequence: &[usize],
) -> Result<Tensor<Rank0, E, D, OwnedTape<E, D>>, D::Err> {
    // One tape is handed from slice to slice: dfdx does not add gradients of tapes that are merged.
    let (losses, mut tape) = losses.split_tape();
    let mut sum: Tensor<Rank0, E, D> = losses.device().try_zeros()?;
    let mut start = 0;
    for &length in per_sequence.iter().filter(|&&length| length > 0) {
        let own = losses.clone().put_tape(tape).try_slice((start..start + length,))?;
        let mean: Tensor<Rank0, E, D, OwnedTape<E, D>> = own.try_mean()?;
        (sum, tape) = mean.try_add(sum)?.split_tape();
        start += length;
    }
    Ok(sum.put_tape(tape))
}
