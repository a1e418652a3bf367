//! Batches that are designed, not drawn: only their tokens are random.

use crate::edit::assemble;
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, Layout, Sequence};
use lossproof_subject::Limits;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

/// Tokens of a sequence, and the positions whose labels are ignored.
type Designed = (usize, &'static [usize]);

/// Ranks × micro-batches × sequences, in which no two numbers that a normaliser may be coincide: 31
/// supervised tokens (8, 10, 7, 4 and 2 by micro-batch), 36 predictions, 35 labels before the shift, 42
/// positions padded by micro-batch and 56 padded at all, 7 sequences, 2 ranks of 2 and 3 micro-batches.
const DESIGNED: [&[&[Designed]]; 2] = [
    &[&[(9, &[0, 1, 2, 3]), (4, &[])], &[(7, &[0]), (6, &[3])]],
    &[&[(8, &[])], &[(6, &[0, 1])], &[(3, &[])]],
];

/// The batch on which the most semantics differ, with as many groups and tokens as the limits allow. Where no label can
/// be ignored, sequences are shorter by those that are here, so that as many are supervised.
#[must_use]
pub fn designed_batch(limits: &Limits, seed: u64) -> GlobalBatch {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut ranks = Vec::new();
    for rank in 0..limits.ranks.nearest(DESIGNED.len()) {
        let of_rank = DESIGNED[rank % DESIGNED.len()];
        let mut micro_batches = Vec::new();
        for micro_batch in 0..limits.micro_batches.nearest(of_rank.len()) {
            let of_micro_batch = of_rank[micro_batch % of_rank.len()];
            let mut sequences = Vec::new();
            for sequence in 0..limits.sequences.nearest(of_micro_batch.len()) {
                let (length, ignored) = of_micro_batch[sequence % of_micro_batch.len()];
                let (length, ignored) = if limits.ignore_index {
                    (length, ignored)
                } else {
                    (length - ignored_predictions(ignored), [].as_slice())
                };
                sequences.push(drawn(limits.lengths.nearest(length), ignored, limits, random));
            }
            micro_batches.push(sequences);
        }
        ranks.push(micro_batches);
    }
    assemble(ranks)
}

/// How many predictions these ignored labels are of: the first label of a sequence is of none.
fn ignored_predictions(ignored: &[usize]) -> usize {
    ignored.iter().filter(|&&position| position > 0).count()
}

/// A batch of wholly supervised sequences of the lengths of a layout.
///
/// # Panics
/// When the layout has a group without a sequence.
#[must_use]
pub fn batch_of_layout(layout: &Layout, limits: &Limits, seed: u64) -> GlobalBatch {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut ranks = Vec::new();
    for rank in layout.ranks() {
        let mut micro_batches = Vec::new();
        for shapes in rank {
            micro_batches
                .push(shapes.iter().map(|shape| drawn(shape.positions, &[], limits, random)).collect());
        }
        ranks.push(micro_batches);
    }
    assemble(ranks)
}

/// A sequence of random tokens.
fn drawn(length: usize, ignored: &[usize], limits: &Limits, random: &mut ChaCha8Rng) -> Sequence {
    let vocabulary = u32::try_from(limits.vocabulary).unwrap_or(u32::MAX);
    let tokens: Vec<u32> = (0..length).map(|_| random.random_range(0..vocabulary)).collect();
    let mut labels: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
    for &position in ignored {
        if let Some(label) = labels.get_mut(position) {
            *label = IGNORE_INDEX;
        }
    }
    Sequence::new(tokens, labels).expect("invariant: a label for each token, and a token at least")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Supervised tokens by micro-batch.
    fn supervised(limits: &Limits) -> Vec<usize> {
        let tokens = |sequences: &[Sequence]| sequences.iter().map(Sequence::supervised).sum();
        designed_batch(limits, 0).micro_batches().map(|micro_batch| tokens(micro_batch.sequences())).collect()
    }

    #[test]
    fn no_two_micro_batches_have_as_many_tokens_whether_or_not_labels_are_ignored() {
        let limits = Limits::of_model(32, 16);
        assert_eq!(supervised(&limits), [8, 10, 7, 4, 2]);
        assert_eq!(supervised(&Limits { ignore_index: false, ..limits }), [8, 10, 7, 4, 2]);
    }
}
