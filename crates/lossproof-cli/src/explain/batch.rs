//! The batch that is asked about: from arguments to a layout, and the counts that the explanation speaks of.

use super::BatchShape;
use lossproof_spec::{Layout, LayoutError, SequenceShape};
use miette::Diagnostic;

/// More sequences than any optimizer step sees; with ten times as many the answer takes seconds and gigabytes.
const MOST_SEQUENCES: usize = 1_000_000;

/// A batch of wholly supervised sequences, dealt to ranks and micro-batches.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) layout: Layout,
    /// Tokens per sequence.
    pub(super) lengths: Extent,
    /// Ranks, `R`.
    pub(super) ranks: usize,
    /// Micro-batches per rank, `K`.
    pub(super) micro_batches: usize,
    /// Sequences in all, `n`.
    pub(super) sequences: usize,
    /// Supervised tokens in all, `N`.
    pub(super) supervised: usize,
    /// Supervised tokens per sequence, `l − 1`.
    pub(super) sequence_losses: Extent,
    /// Supervised tokens per micro-batch, `N_k`.
    pub(super) micro_batch_losses: Extent,
    /// Supervised tokens per rank, `N_r`.
    pub(super) rank_losses: Extent,
    /// Sequences per micro-batch.
    pub(super) dealt: Extent,
}

/// The smallest and the largest of some counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) least: usize,
    pub(super) most: usize,
}

impl Extent {
    /// Of nothing: zero.
    fn of(counts: impl Iterator<Item = usize>) -> Self {
        let extent = counts.fold(None, |extent: Option<Self>, count| {
            let Self { least, most } = extent.unwrap_or(Self { least: count, most: count });
            Some(Self { least: least.min(count), most: most.max(count) })
        });
        extent.unwrap_or(Self { least: 0, most: 0 })
    }

    /// The count, when all are equal.
    pub(super) fn all_equal(self) -> Option<usize> {
        (self.least == self.most).then_some(self.least)
    }
}

impl Batch {
    /// The batch that the arguments describe, its sequences dealt in order and as evenly as possible.
    pub(crate) fn new(args: &BatchShape) -> Result<Self, UsageError> {
        let lengths = lengths(args)?;
        let (sequences, ranks, micro_batches) = (lengths.len(), args.ranks, args.micro_batches);
        if ranks == 0 || micro_batches == 0 {
            return Err(UsageError::NoGroup);
        }
        let groups = ranks.checked_mul(micro_batches).filter(|&groups| groups <= sequences);
        let groups = groups.ok_or(UsageError::TooManyGroups { ranks, micro_batches, sequences })?;
        let extent = Extent::of(lengths.iter().copied());
        let mut rest = lengths.into_iter().map(SequenceShape::full);
        let mut deal = |group| {
            let size = sequences / groups + usize::from(group < sequences % groups);
            rest.by_ref().take(size).collect::<Vec<_>>()
        };
        let mut rank = |r| (0..micro_batches).map(|k| deal(r * micro_batches + k)).collect::<Vec<_>>();
        let layout = Layout::new((0..ranks).map(&mut rank).collect())?;
        let supervised = |shapes: &[SequenceShape]| shapes.iter().map(|s| s.supervised).sum::<usize>();
        Ok(Self {
            lengths: extent,
            ranks,
            micro_batches,
            sequences,
            supervised: layout.supervised(),
            sequence_losses: Extent::of(layout.sequences().map(|s| s.supervised)),
            micro_batch_losses: Extent::of(layout.micro_batches().map(supervised)),
            rank_losses: Extent::of(
                layout.ranks().iter().map(|rank| rank.iter().map(|m| supervised(m)).sum()),
            ),
            dealt: Extent::of(layout.micro_batches().map(<[_]>::len)),
            layout,
        })
    }

    /// Micro-batches of all ranks, `K·R`.
    pub(super) fn groups(&self) -> usize {
        self.ranks * self.micro_batches
    }
}

fn lengths(args: &BatchShape) -> Result<Vec<usize>, UsageError> {
    let lengths = match (&args.lengths[..], args.sequences, args.length) {
        ([], Some(sequences), _) if sequences > MOST_SEQUENCES => {
            return Err(UsageError::TooManySequences { sequences });
        }
        ([], Some(sequences), Some(length)) => vec![length; sequences],
        ([], ..) => return Err(UsageError::NoLengths),
        (lengths, None, None) => lengths.to_vec(),
        _ => return Err(UsageError::LengthsTwice),
    };
    if lengths.len() > MOST_SEQUENCES {
        return Err(UsageError::TooManySequences { sequences: lengths.len() });
    }
    if lengths.is_empty() {
        return Err(UsageError::NoSequence);
    }
    match lengths.iter().position(|&length| length == 0) {
        Some(index) => Err(UsageError::NoToken { number: index + 1 }),
        None => Ok(lengths),
    }
}

/// Arguments that describe no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Diagnostic)]
pub(crate) enum UsageError {
    #[error("the lengths of the sequences are not known")]
    #[diagnostic(help(
        "give --sequences and --length when all are equally long, or one length per sequence with --lengths 12,7,9"
    ))]
    NoLengths,
    #[error(
        "--lengths says how many sequences there are and how long each is; --sequences or --length says it again"
    )]
    #[diagnostic(help("leave out --sequences and --length, or leave out --lengths"))]
    LengthsTwice,
    #[error("there is no sequence")]
    #[diagnostic(help("--sequences must be at least 1"))]
    NoSequence,
    #[error("{sequences} sequences are more than the {MOST_SEQUENCES} that explain takes")]
    #[diagnostic(help("ask about fewer: the reductions compare in the same way"))]
    TooManySequences { sequences: usize },
    #[error("sequence {number} has no token")]
    #[diagnostic(help("a length must be at least 1, and at least 2 for the sequence to make a prediction"))]
    NoToken { number: usize },
    #[error("--ranks and --micro-batches must be at least 1")]
    #[diagnostic(help(
        "1 rank with 1 micro-batch is training without either; it is what you get by leaving both out"
    ))]
    NoGroup,
    #[error(
        "{ranks} ranks × {micro_batches} micro-batches need at least one sequence each, but there are only {sequences} \
         sequences"
    )]
    #[diagnostic(help("lower --ranks or --micro-batches (which is per rank), or give more sequences"))]
    TooManyGroups { ranks: usize, micro_batches: usize, sequences: usize },
    #[error(transparent)]
    #[diagnostic(help("lower --length or --lengths"))]
    Layout(#[from] LayoutError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_dealt_in_order_and_as_evenly_as_possible() {
        let lengths = vec![2, 3, 4, 5, 6, 7, 8, 9];
        let batch =
            Batch::new(&BatchShape { lengths, ranks: 2, micro_batches: 3, ..BatchShape::default() }).unwrap();
        let dealt = batch.layout.micro_batches().map(|m| m.iter().map(|s| s.positions).collect::<Vec<_>>());
        assert_eq!(dealt.collect::<Vec<_>>(), [vec![2, 3], vec![4, 5], vec![6], vec![7], vec![8], vec![9]]);
        assert_eq!(batch.micro_batch_losses, Extent { least: 3 - 1 + 2 - 1, most: 9 - 1 });
        assert_eq!(batch.rank_losses, Extent { least: 15, most: 21 });
    }
}
