//! Each mode is held to its trainer's arithmetic, written out over rows of token losses without the calculus.
//!
//! Loss and gradient are linear in the token losses, so the weight of a token is what the step's loss is when
//! that token's loss is 1 and all others are 0.

use super::super::{BatchShape, batch::Batch};
use super::{find, releases};
use lossproof_spec::Fraction;
use num_traits::{One, Zero};
use std::collections::BTreeSet;

/// The token losses of a sequence.
type Row = Vec<Fraction>;
/// Rows of one micro-batch; each is padded to the longest when it is looked at as a matrix.
type MicroBatch = Vec<Row>;

/// What a batch is for a trainer: its ranks' micro-batches.
struct Step {
    ranks: Vec<Vec<MicroBatch>>,
}

fn whole(number: usize) -> Fraction {
    Fraction::from_integer(number.into())
}

fn sum(row: &[Fraction]) -> Fraction {
    row.iter().sum()
}

fn tokens(rows: &[Row]) -> usize {
    rows.iter().map(Vec::len).sum()
}

fn width(rows: &[Row]) -> usize {
    rows.iter().map(Vec::len).max().unwrap_or(0)
}

/// The sum of all losses in a micro-batch.
fn total(rows: &[Row]) -> Fraction {
    rows.iter().map(|row| sum(row)).sum()
}

/// `F.cross_entropy` with its default reduction.
fn cross_entropy(rows: &[Row]) -> Fraction {
    total(rows) / whole(tokens(rows))
}

/// The mean over a matrix in which padding holds zero.
fn mean_of_matrix(rows: &[Row]) -> Fraction {
    total(rows) / whole(rows.len() * width(rows))
}

fn mean(values: &[Fraction]) -> Fraction {
    sum(values) / whole(values.len())
}

/// The mean of each sequence's mean; `counted` sequences, or those with a loss.
fn mean_of_means(rows: &[Row], counted: Option<usize>) -> Fraction {
    let means = rows.iter().filter(|row| !row.is_empty()).map(|row| mean(row));
    let sum: Fraction = means.sum();
    sum / whole(counted.unwrap_or(with_losses(rows)))
}

fn with_losses(rows: &[Row]) -> usize {
    rows.iter().filter(|row| !row.is_empty()).count()
}

impl Step {
    fn tokens(&self) -> usize {
        self.ranks.iter().flatten().map(|rows| tokens(rows)).sum()
    }

    fn sequences(&self) -> usize {
        self.ranks.iter().flatten().map(Vec::len).sum()
    }

    fn width(&self) -> usize {
        self.ranks.iter().flatten().map(|rows| width(rows)).max().unwrap_or(0)
    }

    /// The loss of which an all-reduce that averages leaves the gradient, when `backward` is called on each
    /// micro-batch's loss: that of `of`, which is given the rank and the micro-batch.
    fn data_parallel(&self, of: impl Fn(&[MicroBatch], &[Row]) -> Fraction) -> Fraction {
        let ranks: Vec<Fraction> =
            self.ranks.iter().map(|rank| rank.iter().map(|rows| of(rank, rows)).sum()).collect();
        mean(&ranks)
    }

    /// The same with an all-reduce that adds.
    fn added(&self, of: impl Fn(&[Row]) -> Fraction) -> Fraction {
        self.ranks.iter().flatten().map(|rows| of(rows)).sum()
    }

    /// The loss of the step in which the mode is used.
    fn loss(&self, mode: &str) -> Fraction {
        let world = whole(self.ranks.len());
        let (all_tokens, all_sequences) = (whole(self.tokens()), whole(self.sequences()));
        let horizon = whole(self.width());
        let accumulated = |rank: &[MicroBatch]| whole(rank.len());
        let share =
            |rank: &[MicroBatch], rows: &[Row]| whole(rows.len()) / whole(rank.iter().map(Vec::len).sum());
        match mode {
            // agg_loss with global_batch_info
            "verl:token-mean" => self.data_parallel(|_, rows| total(rows) / &all_tokens * &world),
            "verl:token-sum" => self.data_parallel(|_, rows| total(rows) * &world),
            "verl:seq-mean-token-sum" => self.data_parallel(|_, rows| total(rows) / &all_sequences * &world),
            "verl:seq-mean-token-sum-norm" => {
                self.data_parallel(|_, rows| total(rows) / &all_sequences * &world / &horizon)
            }
            "verl:seq-mean-token-mean" => {
                let counted = Some(self.sequences());
                self.data_parallel(|_, rows| mean_of_means(rows, counted) * &world)
            }
            // agg_loss of a micro-batch, times loss_scale_factor
            "verl-0.6.1:token-mean" => {
                self.data_parallel(|rank, rows| cross_entropy(rows) / accumulated(rank))
            }
            "verl-0.6.1:seq-mean-token-sum" => {
                self.data_parallel(|rank, rows| total(rows) / whole(with_losses(rows)) / accumulated(rank))
            }
            "verl-0.6.1:seq-mean-token-mean" => {
                self.data_parallel(|rank, rows| mean_of_means(rows, None) / accumulated(rank))
            }
            "verl-0.6.1:seq-mean-token-sum-norm" => {
                self.data_parallel(|rank, rows| total(rows) / &horizon / accumulated(rank))
            }
            "verl-0.6.1:token-mean:dynamic" => {
                self.data_parallel(|rank, rows| cross_entropy(rows) * share(rank, rows))
            }
            "verl-0.6.1:seq-mean-token-sum:dynamic" => {
                self.data_parallel(|rank, rows| total(rows) / whole(with_losses(rows)) * share(rank, rows))
            }
            "verl-0.6.1:seq-mean-token-mean:dynamic" => {
                self.data_parallel(|rank, rows| mean_of_means(rows, None) * share(rank, rows))
            }
            // GRPOTrainer._compute_loss; the first with a token count clamped to 1
            "trl:grpo" => self.data_parallel(|rank, rows| {
                let clamped = rows.iter().map(|row| sum(row) / whole(row.len().max(1))).collect::<Vec<_>>();
                mean(&clamped) / accumulated(rank)
            }),
            "trl:bnpo" => {
                self.data_parallel(|rank, rows| total(rows) / whole(tokens(rows).max(1)) / accumulated(rank))
            }
            "trl:dr_grpo" => self
                .data_parallel(|rank, rows| total(rows) / (whole(rows.len()) * &horizon) / accumulated(rank)),
            "trl:dapo" => {
                let normalizer = &all_tokens / &world;
                self.data_parallel(|_, rows| total(rows) / &normalizer)
            }
            // Trainer: a sum over num_items_in_batch, times the number of processes
            "trl:sft" | "transformers:trainer" => {
                self.data_parallel(|_, rows| total(rows) / &all_tokens * &world)
            }
            "transformers:trainer:unshifted" | "transformers-4.57.1:trainer" | "llamafactory:sft" => {
                let labels = &all_tokens + &all_sequences;
                self.data_parallel(|_, rows| total(rows) / &labels * &world)
            }
            "transformers:trainer:local" => self
                .data_parallel(|rank, rows| total(rows) / whole(rank.iter().map(|rows| tokens(rows)).sum())),
            "transformers:trainer:no-count"
            | "transformers-4.44.2:trainer"
            | "accelerate:backward"
            | "axolotl:sft"
            | "llamafactory:sft:multimodal"
            | "lightning:accumulate_grad_batches"
            | "torchtitan-0.2.1:any"
            | "nanogpt:any" => self.data_parallel(|rank, rows| cross_entropy(rows) / accumulated(rank)),
            // finalize_model_grads divides what was added
            "megatron:per-token" => self.added(total) / &all_tokens,
            "megatron:default" => self.added(|rows| {
                let num_microbatches = whole(self.ranks[0].len());
                total(rows) / whole(tokens(rows).max(1)) / num_microbatches / &world
            }),
            "torchtitan:fsdp" => self.added(|rows| total(rows) / &all_tokens),
            "torchtitan:ddp" => self.data_parallel(|_, rows| total(rows) / &all_tokens),
            "llm.c:any" => {
                self.data_parallel(|rank, rows| total(rows) / whole(rows.len() * width(rows) * rank.len()))
            }
            "burn:cross-entropy" | "tch:cross_entropy_for_logits" => self.added(cross_entropy),
            "burn-0.21.0:cross-entropy" | "candle:cross_entropy" => self.added(mean_of_matrix),
            mode => panic!("the arithmetic of {mode} is not written down here"),
        }
    }
}

/// Unequal sequences (one without a loss), micro-batches (3, 2, 2 and 2 sequences) and ranks.
const LENGTHS: [usize; 9] = [5, 1, 4, 3, 7, 6, 4, 2, 9];

fn batch(lengths: &[usize], ranks: usize, micro_batches: usize) -> Batch {
    let shape = BatchShape { lengths: lengths.to_vec(), ranks, micro_batches, ..BatchShape::default() };
    Batch::new(&shape).unwrap()
}

/// The batch with all token losses zero but one.
fn step(batch: &Batch, sequence: usize, token: usize) -> Step {
    let mut index = 0;
    let mut row = |supervised: usize| {
        let mut row = vec![Fraction::zero(); supervised];
        if index == sequence {
            row[token] = Fraction::one();
        }
        index += 1;
        row
    };
    let mut ranks = Vec::new();
    for rank in batch.layout.ranks() {
        let rows = rank.iter().map(|rows| rows.iter().map(|shape| row(shape.supervised)).collect());
        ranks.push(rows.collect());
    }
    Step { ranks }
}

#[test]
fn every_mode_weighs_what_its_trainer_computes() {
    let batch = batch(&LENGTHS, 2, 2);
    for mode in releases().flat_map(|release| release.modes) {
        let weights = mode.weighing.weights(&batch).unwrap();
        assert_eq!(weights.len(), LENGTHS.len());
        for (sequence, (weight, length)) in weights.iter().zip(LENGTHS).enumerate() {
            for token in 0..length - 1 {
                let loss = step(&batch, sequence, token).loss(mode.name);
                assert_eq!(*weight, loss, "{}, token {token} of sequence {sequence}", mode.name);
            }
        }
    }
}

/// The circumstance named is one: modes are their nearest letter on batches that have it, and not on the
/// ragged one.
#[test]
fn a_mode_is_its_nearest_letter_where_it_says_so() {
    let ragged = batch(&LENGTHS, 2, 2);
    for mode in releases().flat_map(|release| release.modes) {
        let Some(nearest) = &mode.nearest else { continue };
        let agree = |batch: &Batch| {
            let weights =
                lossproof_spec::TokenWeights::new(&nearest.semantics.spec(), &batch.layout).unwrap();
            let lettered = weights.sequences().map(|(weight, _)| weight.clone()).collect::<Vec<_>>();
            mode.weighing.weights(batch).unwrap() == lettered
        };
        assert!(mode.weighing.lettered().is_none(), "{} is lettered and has a nearest letter", mode.name);
        assert!(!agree(&ragged), "{} on the ragged batch", mode.name);
        let with_it = match nearest.when {
            "L is 1" => batch(&[2, 1, 2, 2], 2, 1),
            "K, R and L are 1" => batch(&[2, 1, 2], 1, 1),
            "L is 1 and all micro-batches hold equally many sequences" => batch(&[2, 1, 2, 2], 2, 2),
            "the sequences of each micro-batch are equally long" => batch(&[4, 4, 7, 7, 3, 5], 2, 2),
            "all micro-batches of a rank hold equally many sequences" => batch(&[4, 7, 3, 5], 2, 2),
            "all micro-batches hold equally many sequences"
            | "all ranks hold equally many sequences and each has a loss" => {
                batch(&[4, 7, 3, 5, 6, 2, 9, 8], 2, 2)
            }
            when => panic!("there is no batch here on which {when}"),
        };
        assert!(agree(&with_it), "{} is not {:?} where {}", mode.name, nearest.semantics, nearest.when);
    }
}

#[test]
fn a_promise_is_something_else_than_what_is_computed() {
    let ragged = batch(&LENGTHS, 2, 2);
    let mut promises = 0;
    for mode in releases().flat_map(|release| release.modes) {
        let Some(promise) = &mode.promise else { continue };
        let promised = promise.weighing.weights(&ragged).expect("a promise of numbers");
        assert_ne!(mode.weighing.weights(&ragged).unwrap(), promised, "{} keeps its promise", mode.name);
        promises += 1;
    }
    assert!(promises >= 6);
}

#[test]
fn a_mode_is_found_by_its_name_and_there_are_no_two_of_one_name() {
    let mut names = BTreeSet::new();
    for mode in releases().flat_map(|release| release.modes) {
        assert!(names.insert(mode.name), "{} is there twice", mode.name);
        assert_eq!(find(mode.name).unwrap().name, mode.name);
        assert!(!mode.source.is_empty(), "{} has no source", mode.name);
        for source in mode.source.iter().chain(mode.promise.as_ref().map(|promise| &promise.source)) {
            let (path, line) = source.split_once(':').expect("a path and a line");
            assert!(!path.is_empty() && line.parse::<usize>().is_ok_and(|line| line > 0), "{source}");
        }
    }
    assert!(find("verl:token").is_none());
}
