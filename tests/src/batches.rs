//! Batches that are hard on trainers, for models of any vocabulary from 64 on.

use lossproof_spec::{GlobalBatch, IGNORE_INDEX, MicroBatch, Rank, Sequence, SequenceFields};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

fn sequence(random: &mut ChaCha8Rng, length: usize, masked: impl Fn(usize) -> bool) -> Sequence {
    let input_ids: Vec<u32> = (0..length).map(|_| random.random_range(0..64)).collect();
    let label =
        |(position, &token): (usize, &u32)| if masked(position) { IGNORE_INDEX } else { i64::from(token) };
    let labels = input_ids.iter().enumerate().map(label).collect();
    Sequence::new(input_ids, labels).expect("a sequence")
}

fn assemble(ranks: Vec<Vec<Vec<Sequence>>>) -> GlobalBatch {
    let micro_batches =
        |rank: Vec<Vec<Sequence>>| rank.into_iter().map(|m| MicroBatch::new(m).expect("sequences")).collect();
    let ranks = ranks.into_iter().map(|rank| Rank::new(micro_batches(rank)).expect("micro-batches"));
    GlobalBatch::new(ranks.collect()).expect("ranks")
}

/// Two ranks of two micro-batches, every count different from every other: micro-batches, sequences and
/// supervised tokens of ranks, supervised tokens of sequences. Nothing coincides by chance.
///
/// # Panics
/// Never, but for a defect of this crate.
#[must_use]
pub fn ragged_batch(seed: u64) -> GlobalBatch {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    assemble(vec![
        vec![
            vec![sequence(random, 12, |p| p < 3), sequence(random, 4, |_| false)],
            vec![
                sequence(random, 7, |p| p == 0),
                sequence(random, 15, |p| p == 5),
                sequence(random, 2, |_| false),
            ],
        ],
        vec![
            vec![sequence(random, 11, |_| false)],
            vec![sequence(random, 6, |p| p < 2)],
            vec![sequence(random, 8, |_| false)],
        ],
    ])
}

/// Three ranks with everything that is easily got wrong: an ignored sequence beside supervised ones, a sequence of one
/// position, a hole, an ignored micro-batch, an ignored rank, first labels masked and not.
///
/// # Panics
/// Never, but for a defect of this crate.
#[must_use]
pub fn hard_batch(seed: u64) -> GlobalBatch {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    assemble(vec![
        vec![
            vec![
                sequence(random, 9, |p| p < 3),
                sequence(random, 4, |_| true),
                sequence(random, 1, |_| false),
            ],
            vec![sequence(random, 5, |_| true)],
            vec![sequence(random, 6, |p| p == 2), sequence(random, 12, |_| false)],
        ],
        vec![vec![sequence(random, 7, |_| true)]],
        vec![
            vec![sequence(random, 3, |p| p == 0)],
            vec![sequence(random, 11, |p| p > 6), sequence(random, 2, |_| false)],
        ],
    ])
}

/// Rows with packed documents, padding on the left and on the right, and positions that restart.
///
/// # Panics
/// Never, but for a defect of this crate.
#[must_use]
pub fn packed_batch(seed: u64) -> GlobalBatch {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut row = |segment_ids: [u32; 10]| {
        let input_ids: Vec<u32> = segment_ids.iter().map(|_| random.random_range(0..64)).collect();
        let starts = |position: usize| position == 0 || segment_ids[position] != segment_ids[position - 1];
        let label = |position: usize| {
            let first = starts(position) || segment_ids[position] == 0;
            if first { IGNORE_INDEX } else { i64::from(input_ids[position]) }
        };
        let labels = (0..10).map(label).collect();
        let mut position_ids = Vec::new();
        for position in 0..10 {
            position_ids.push(if starts(position) { 0 } else { position_ids[position - 1] + 1 });
        }
        let fields = SequenceFields {
            input_ids: input_ids.clone(),
            labels,
            segment_ids: segment_ids.to_vec(),
            position_ids,
            targets: Vec::new(),
        };
        Sequence::from_fields(fields).expect("a row")
    };
    let rows = vec![
        row([1, 1, 1, 2, 2, 2, 2, 3, 3, 3]),
        row([0, 0, 0, 1, 1, 1, 1, 1, 1, 1]),
        row([1, 1, 1, 1, 1, 1, 0, 0, 0, 0]),
    ];
    assemble(vec![vec![rows]])
}

/// A ragged batch of up to 2 × 2 micro-batches with masks of every kind.
///
/// # Panics
/// Never, but for a defect of this crate.
#[must_use]
pub fn random_batch(seed: u64) -> GlobalBatch {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut ranks = Vec::new();
    for _ in 0..random.random_range(1..=2) {
        let mut rank = Vec::new();
        for _ in 0..random.random_range(1..=2) {
            let count = random.random_range(1..=3);
            let row = |random: &mut ChaCha8Rng| {
                let length = random.random_range(1..=12);
                let (kind, cut) = (random.random_range(0..5), random.random_range(0..=length));
                sequence(random, length, move |position| match kind {
                    0 => position < cut,
                    1 => position >= cut,
                    2 => position == cut,
                    3 => true,
                    _ => false,
                })
            };
            rank.push((0..count).map(|_| row(random)).collect());
        }
        ranks.push(rank);
    }
    assemble(ranks)
}
