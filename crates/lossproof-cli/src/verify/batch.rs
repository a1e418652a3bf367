//! From a text to a ragged global batch.

use crate::source_text::{SourceText, SourceTextError};
use lossproof_gpt2::ModelShape;
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, MicroBatch, Rank, Sequence};
use miette::Diagnostic;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Ranks, and micro-batches of each rank, where there are sequences enough.
pub(crate) const PARTS: usize = 2;

/// A global batch of `sequences` passages of the text, dealt to up to 2 ranks × 2 micro-batches.
///
/// Lengths vary between half of `length` and `length`. Every third sequence has a masked prompt, another third only its
/// first label masked, and the rest supervise everything, the first label included: that one is never predicted, and
/// whoever counts it counts one token too many.
pub(crate) fn ragged(
    text: &SourceText,
    shape: ModelShape,
    sequences: usize,
    length: usize,
    seed: u64,
) -> Result<GlobalBatch, BatchError> {
    if length < 2 || length > shape.positions {
        return Err(BatchError::Length { length, positions: shape.positions });
    }
    if sequences == 0 {
        return Err(BatchError::NoSequence);
    }
    let tokens = text.tokens(shape.vocabulary)?;
    if tokens.len() < length {
        return Err(BatchError::Short { text: text.name.clone(), tokens: tokens.len(), length });
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut passages = Vec::with_capacity(sequences);
    for index in 0..sequences {
        // The first sequence has the full length, so that the length asked for is the width of a micro-batch.
        let own = if index == 0 { length } else { random.random_range(length.div_ceil(2).max(2)..=length) };
        let start = random.random_range(0..=tokens.len() - own);
        let passage = &tokens[start..start + own];
        let masked = match index % 3 {
            0 => 0,
            1 => random.random_range(1..=own / 2),
            _ => 1,
        };
        let label = |(position, &token)| if position < masked { IGNORE_INDEX } else { i64::from(token) };
        let labels = passage.iter().enumerate().map(label).collect();
        passages.push(Sequence::new(passage.to_vec(), labels)?);
    }
    let ranks = PARTS.min(sequences);
    let ranks = deal(passages, ranks).map(|own| {
        let micro_batches = PARTS.min(own.len());
        Rank::new(deal(own, micro_batches).map(MicroBatch::new).collect::<Result<_, _>>()?)
    });
    Ok(GlobalBatch::new(ranks.collect::<Result<_, _>>()?)?)
}

/// Divides into `parts` runs as equal as possible, none empty while there are `parts` of them.
fn deal<T>(all: Vec<T>, parts: usize) -> impl Iterator<Item = Vec<T>> {
    let total = all.len();
    let mut rest = all.into_iter();
    (0..parts)
        .map(move |part| rest.by_ref().take((part + 1) * total / parts - part * total / parts).collect())
}

/// Why no batch can be made.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum BatchError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Text(#[from] SourceTextError),
    #[error("{text} has {tokens} tokens, a sequence of {length} does not fit")]
    #[diagnostic(help("take a longer text or a smaller `--length`"))]
    Short { text: String, tokens: usize, length: usize },
    #[error("a sequence cannot have {length} tokens")]
    #[diagnostic(help("this model takes 2 to {positions} tokens: with one there is nothing to predict"))]
    Length { length: usize, positions: usize },
    #[error("a batch needs a sequence")]
    #[diagnostic(help("`--sequences` takes 1 or more, 4 or more to have 2 ranks of 2 micro-batches"))]
    NoSequence,
    #[error(transparent)]
    Batch(#[from] lossproof_spec::BatchError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_gpt2::Config;
    use lossproof_spec::{LossSpec, TokenWeights, WeightRatio};

    #[test]
    fn the_default_batch_is_ragged_in_every_way_that_matters() {
        let batch = ragged(&SourceText::read(None).unwrap(), Config::Nano.shape(), 10, 24, 0).unwrap();
        let layout = batch.layout();
        assert_eq!(layout.ranks().iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(layout.micro_batches().map(<[_]>::len).collect::<Vec<_>>(), [2, 3, 2, 3]);
        let weights = |spec| TokenWeights::new(&spec, &layout).unwrap();
        for spec in [LossSpec::naive_accumulated_mean(), LossSpec::sequence_mean()] {
            let ratio = WeightRatio::between(&weights(spec), &weights(LossSpec::token_mean()));
            assert!(
                matches!(ratio, WeightRatio::Varies { .. }),
                "{spec} must differ from the token mean here"
            );
        }
        assert!(layout.sequences().any(|s| s.first_label) && layout.sequences().any(|s| !s.first_label));
        assert_eq!(batch.sequences().map(Sequence::len).max(), Some(24));
    }

    #[test]
    fn few_sequences_make_fewer_groups() {
        let groups = |sequences| {
            let shipped = SourceText::read(None).unwrap();
            let batch = ragged(&shipped, Config::Nano.shape(), sequences, 8, 1).unwrap();
            batch.ranks().iter().map(|rank| rank.micro_batches().len()).collect::<Vec<_>>()
        };
        assert_eq!(
            [groups(1), groups(2), groups(3), groups(4)],
            [vec![1], vec![1, 1], vec![1, 2], vec![2, 2]]
        );
    }

    #[test]
    fn unusable_input_is_named() {
        let shape = Config::Nano.shape();
        let error = |text: &[u8], sequences, length| {
            ragged(&SourceText::of(text), shape, sequences, length, 0).unwrap_err()
        };
        assert!(matches!(error(b"abc", 4, 8), BatchError::Short { tokens: 3, .. }));
        assert!(matches!(error(b"abcd", 4, 1), BatchError::Length { .. }));
        assert!(matches!(error(b"abcd", 4, 65), BatchError::Length { positions: 64, .. }));
        assert!(matches!(error(b"abcd", 0, 4), BatchError::NoSequence));
        let small = Config::Small.shape();
        let error = ragged(&SourceText::of(b"abc\xff"), small, 1, 2, 0).unwrap_err();
        assert!(matches!(error, BatchError::Text(SourceTextError::NotUtf8 { at: 3, .. })));
    }
}
