//! `lossproof explain`: what the losses of a batch become under every reduction, without running a model.

mod answer;
mod asked;
mod batch;
mod classes;
mod drawn;
mod listing;
mod modes;
mod semantics;

use crate::{exit::Exit, output};
pub(crate) use batch::Batch;
use clap::builder::{PossibleValuesParser, TypedValueParser};
pub(crate) use drawn::Drawn;
use modes::Mode;
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
                  lossproof explain --lengths 12,7,7,3 --ranks 2 --svg weights.svg --draw sum,batch-mean\n  \
                  lossproof explain --lengths 12,7,7,3 --micro-batches 2 --mode trl:bnpo --mode verl:token-mean\n  \
                  lossproof explain --modes"
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
    /// Say what a mode of a known trainer makes of the batch, too; --modes lists them. Can be given several
    /// times.
    #[arg(long = "mode", value_name = "MODE", value_parser = mode_parser(), hide_possible_values = true)]
    modes: Vec<&'static Mode>,
    /// List the modes of known trainers: what a loss is divided by in each, which semantics it is, and where
    /// it stands in the source.
    #[arg(long = "modes", exclusive = true)]
    list: bool,
}

/// Takes the names of the modes, and suggests the nearest when there is none of that name.
fn mode_parser() -> impl TypedValueParser<Value = &'static Mode> {
    let names = modes::releases().flat_map(|release| release.modes).map(|mode| mode.name);
    PossibleValuesParser::new(names)
        .map(|name| modes::find(&name).expect("invariant: the possible values are the names of the modes"))
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
    if args.list {
        output::print(&listing::listing())?;
        return Ok(Exit::Conforms);
    }
    let batch = Batch::new(&args.shape)?;
    if let Some(path) = &args.svg {
        output::write(path, drawn::picture(&batch, &args.draw)?.as_bytes())?;
    }
    output::print(&answer::answer(&batch, &args.modes))?;
    Ok(Exit::Conforms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use batch::UsageError;

    fn explain(args: &BatchShape) -> Result<String, UsageError> {
        Ok(answer::answer(&Batch::new(args)?, &[]))
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

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn asked(arguments: &[&str]) -> String {
        let arguments = ["explain"].iter().chain(arguments);
        let Command { args } = clap::Parser::try_parse_from(arguments).unwrap();
        answer::answer(&Batch::new(&args.shape).unwrap(), &args.modes)
    }

    #[test]
    fn all_modes_are_listed() {
        insta::assert_snapshot!(listing::listing());
    }

    #[test]
    fn modes_that_are_asked_for_are_compared_with_the_letters_and_with_what_is_said_of_them() {
        let text = asked(&[
            "--lengths=12,7,7,3,5",
            "--ranks=2",
            "--micro-batches=2",
            "--mode=verl:token-mean",
            "--mode=verl-0.6.1:token-mean",
            "--mode=verl:seq-mean-token-sum-norm",
            "--mode=trl:grpo",
            "--mode=transformers:trainer:unshifted",
        ]);
        insta::assert_snapshot!(text.split_once("\nWhat do the modes").unwrap().1);
    }

    #[test]
    fn a_mode_that_coincides_with_a_letter_says_why() {
        let text = asked(&["--lengths=4,7,3,5", "--ranks=2", "--micro-batches=2", "--mode=trl:grpo"]);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = "It is C here because all micro-batches hold equally many sequences; elsewhere they part.";
        assert!(text.contains(said), "{text}");
    }

    #[test]
    fn a_mean_over_nothing_is_told_where_the_trainer_takes_it() {
        let nan = asked(&["--lengths=1,4", "--micro-batches=2", "--mode=lightning:accumulate_grad_batches"]);
        assert!(nan.contains("NaN") && nan.contains("micro-batch 0 has no supervised token"), "{nan}");
        let zero = asked(&["--lengths=1,4", "--micro-batches=2", "--mode=megatron:default"]);
        assert!(!zero.contains("NaN"), "{zero}");
    }

    #[test]
    fn an_unknown_mode_is_refused_and_the_nearest_is_named() {
        let arguments = ["explain", "--lengths=3", "--mode=verl:tokenmean"];
        let error = <Command as clap::Parser>::try_parse_from(arguments).unwrap_err().to_string();
        assert!(error.contains("invalid value 'verl:tokenmean'"), "{error}");
        assert!(error.contains("'verl:token-mean'"), "{error}");
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
