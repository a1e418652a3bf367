//! Global batches of the shipped text.

use lossproof_spec::{GlobalBatch, IGNORE_INDEX, MicroBatch, Rank, Sequence};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

const TEXT: &[u8] = include_bytes!("../../fixtures/text/alice.txt");

/// Global batches of passages from the shipped text, one byte a token, without end: as many sequences in each
/// micro-batch of each rank as `layout` says for that batch (counted from 0), of 16 to `longest` tokens, every other
/// one with a prompt of up to half its length masked.
///
/// # Panics
/// When the text is shorter than a sequence.
pub fn text_batches<'a>(
    layout: impl Fn(usize) -> &'a [&'a [usize]],
    longest: usize,
    seed: u64,
) -> impl Iterator<Item = GlobalBatch> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut passage = move |index: usize| {
        let length = random.random_range(16..=longest);
        let start = random.random_range(0..=TEXT.len() - length);
        let tokens: Vec<u32> = TEXT[start..start + length].iter().map(|&byte| u32::from(byte)).collect();
        let prompt = if index % 2 == 1 { random.random_range(1..=length / 2) } else { 0 };
        let label = |(position, &token)| if position < prompt { IGNORE_INDEX } else { i64::from(token) };
        let labels = tokens.iter().enumerate().map(label).collect();
        Sequence::new(tokens, labels).expect("a sequence")
    };
    (0..).map(move |index| {
        let mut micro_batch = |&sequences: &usize| {
            MicroBatch::new((0..sequences).map(&mut passage).collect()).expect("sequences")
        };
        let mut rank =
            |rank: &&[usize]| Rank::new(rank.iter().map(&mut micro_batch).collect()).expect("micro-batches");
        GlobalBatch::new(layout(index).iter().map(&mut rank).collect()).expect("ranks")
    })
}
