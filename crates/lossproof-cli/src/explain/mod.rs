//! `lossproof explain`: what the losses of a batch become under every reduction, without running a model.

mod answer;
mod batch;
mod drawn;
mod semantics;

use crate::{exit::Exit, output};
pub(crate) use batch::Batch;
pub(crate) use drawn::Drawn;
use std::path::PathBuf;

/// Explain how many losses a batch has, and what the gradient is the gradient of.
///
/// Without running a model: how many predictions there are, what a token weighs under each reduction (sum, means, and
/// the known mistakes of gradient accumulation and data parallelism), how any two of them compare, and which are the
/// same for this batch.
#[derive(Debug, Default, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  lossproof explain --sequences 8192 --length 64\n  \
                  lossproof explain --lengths 12,7,7,3 --ranks 2 --micro-batches 2\n  \
                  lossproof explain --lengths 12,7,7,3 --ranks 2 --svg weights.svg --draw sum,batch-mean"
)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: BatchShape,
    /// Draw the weight of every supervised token into this file, too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// What to draw, one below the other; the first is what the others are compared with.
    #[arg(
        long,
        value_name = "NAME,NAME,…",
        value_delimiter = ',',
        requires = "svg",
        default_value = "token-mean,naive-accumulated-mean,counted-before-shift,averaging-not-undone"
    )]
    draw: Vec<Drawn>,
}

/// How many tokens a batch has, and how it is cut up.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub(crate) struct BatchShape {
    /// Sequences that one optimizer step sees, over all ranks and micro-batches.
    #[arg(long, value_name = "N")]
    pub(crate) sequences: Option<usize>,
    /// Tokens in each sequence.
    #[arg(long, value_name = "N")]
    pub(crate) length: Option<usize>,
    /// Tokens in each sequence when they differ, instead of --sequences and --length.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    pub(crate) lengths: Vec<usize>,
    /// Micro-batches that each rank accumulates before it steps.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub(crate) micro_batches: usize,
    /// Ranks: processes that train the same model together, each on its own sequences.
    #[arg(long, value_name = "R", default_value_t = 1)]
    pub(crate) ranks: usize,
}

/// Prints the explanation, and draws it when asked to.
///
/// # Errors
/// When the arguments describe no batch, or the picture cannot be drawn or written.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    let batch = Batch::new(&args.shape)?;
    if let Some(path) = &args.svg {
        output::write(path, drawn::picture(&batch, &args.draw)?.as_bytes())?;
    }
    output::print(&answer::answer(&batch))?;
    Ok(Exit::Conforms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use batch::UsageError;

    fn explain(args: &BatchShape) -> Result<String, UsageError> {
        Ok(answer::answer(&Batch::new(args)?))
    }

    fn args(sequences: usize, length: usize) -> BatchShape {
        BatchShape {
            sequences: Some(sequences),
            length: Some(length),
            micro_batches: 1,
            ranks: 1,
            ..BatchShape::default()
        }
    }

    fn lengths(lengths: &[usize], ranks: usize, micro_batches: usize) -> BatchShape {
        BatchShape { lengths: lengths.to_vec(), ranks, micro_batches, ..BatchShape::default() }
    }

    #[test]
    fn equally_long_sequences_in_one_piece() {
        insta::assert_snapshot!(explain(&args(8192, 64)).unwrap());
    }

    #[test]
    fn ragged_sequences_on_two_ranks_with_two_micro_batches() {
        insta::assert_snapshot!(explain(&lengths(&[12, 7, 7, 3, 5], 2, 2)).unwrap());
    }

    #[test]
    fn equally_long_sequences_accumulated() {
        insta::assert_snapshot!(explain(&BatchShape { micro_batches: 4, ..args(64, 16) }).unwrap());
    }

    #[test]
    fn a_sequence_of_one_token_has_no_loss_but_counts() {
        let text = explain(&lengths(&[1, 3], 1, 2)).unwrap();
        assert!(text.contains("A sequence of one token predicts nothing"), "{text}");
        // All losses are in the second micro-batch, so adding the means of both is the mean.
        assert!(text.contains("B = G because all losses are in one micro-batch."), "{text}");
        let text = explain(&lengths(&[1, 1], 1, 1)).unwrap();
        assert!(
            text.contains("2 sequences × 0 = 0 losses") && text.contains("nothing to learn from"),
            "{text}"
        );
    }

    #[test]
    fn every_coincidence_has_its_reason() {
        let has = |args: &BatchShape, line: &str| {
            let text = explain(args).unwrap();
            assert!(text.contains(line), "{line} is not in\n{text}");
        };
        has(&args(1, 9), "A = D because there is one sequence only.");
        has(&args(1, 9), "B = C because there is one sequence only.");
        has(&args(1, 2), "A = B because there is one loss only.");
        has(&args(5, 2), "B = D because there are as many losses as sequences.");
        has(&lengths(&[4, 9], 1, 2), "C = E because every micro-batch holds one sequence only.");
        has(&lengths(&[4, 9, 5], 3, 1), "E = H because every rank has one micro-batch only.");
        has(&lengths(&[4, 9, 9, 4], 2, 2), "B = H because all ranks hold equally many losses (11).");
        has(&lengths(&[1, 5], 2, 1), "H = I because all losses are on one rank.");
        // Six losses per micro-batch and six sequences in all: no law makes them equal.
        has(&BatchShape { micro_batches: 3, ..args(6, 4) }, "D = G because the numbers happen to agree.");
    }

    /// Where weights agree and no rule says why, the answer falls back on "the numbers happen to agree"; that must stay
    /// the exception it claims to be.
    #[test]
    fn lengths_without_a_pattern_tell_the_semantics_apart() {
        let text = explain(&lengths(&[12, 7, 10, 3, 5, 30], 2, 3)).unwrap();
        assert!(!text.contains("happen to agree"), "{text}");
    }

    #[test]
    fn arguments_that_describe_no_batch_are_refused_with_a_remedy() {
        let refused = |args: BatchShape| {
            let error = explain(&args).unwrap_err();
            assert!(miette::Diagnostic::help(&error).is_some(), "{error} names no remedy");
            error
        };
        let twice = BatchShape { lengths: vec![3], ..args(2, 3) };
        assert_eq!(refused(twice), UsageError::LengthsTwice);
        assert_eq!(refused(lengths(&[], 1, 1)), UsageError::NoLengths);
        assert_eq!(refused(BatchShape { length: None, ..args(2, 3) }), UsageError::NoLengths);
        assert_eq!(refused(args(0, 3)), UsageError::NoSequence);
        assert_eq!(refused(args(2, 0)), UsageError::NoToken { number: 1 });
        assert_eq!(refused(lengths(&[4, 0], 1, 1)), UsageError::NoToken { number: 2 });
        assert_eq!(refused(args(10_000_000, 64)), UsageError::TooManySequences { sequences: 10_000_000 });
        assert_eq!(refused(BatchShape { ranks: 0, ..args(2, 3) }), UsageError::NoGroup);
        let crowded = UsageError::TooManyGroups { ranks: 2, micro_batches: 2, sequences: 3 };
        assert_eq!(refused(lengths(&[4, 5, 6], 2, 2)), crowded);
        let crowded = UsageError::TooManyGroups { ranks: usize::MAX, micro_batches: 2, sequences: 2 };
        assert_eq!(refused(BatchShape { ranks: usize::MAX, micro_batches: 2, ..args(2, 3) }), crowded);
        assert!(matches!(refused(args(2, usize::MAX)), UsageError::Layout(_)));
    }
}
