//! What the loss calculus needs to know of a batch: the counts.

/// Counts of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceShape {
    /// Positions, `l`.
    pub positions: usize,
    /// Supervised tokens, `l_i ≤ l − 1`.
    pub supervised: usize,
    /// Whether the label at position 0, which no prediction is scored against, is one that is not ignored.
    pub first_label: bool,
}

impl SequenceShape {
    /// A sequence of `positions` tokens with every label given: `positions − 1` supervised tokens.
    #[must_use]
    pub fn full(positions: usize) -> Self {
        Self { positions, supervised: positions.saturating_sub(1), first_label: true }
    }
}

/// The counts of a global batch: ranks × micro-batches × sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    ranks: Vec<Vec<Vec<SequenceShape>>>,
}

impl Layout {
    /// A layout from the counts of every sequence.
    ///
    /// # Errors
    /// When a group is empty, a sequence claims more supervised tokens than it makes predictions, or the positions of
    /// all sequences together exceed `usize`.
    pub fn new(ranks: Vec<Vec<Vec<SequenceShape>>>) -> Result<Self, LayoutError> {
        let empty = |group| LayoutError::Empty { group };
        if ranks.is_empty() {
            return Err(empty("global batch"));
        }
        let mut total = 0_usize;
        for rank in &ranks {
            if rank.is_empty() {
                return Err(empty("rank"));
            }
            for micro_batch in rank {
                if micro_batch.is_empty() {
                    return Err(empty("micro-batch"));
                }
                for &SequenceShape { positions, supervised, .. } in micro_batch {
                    if positions == 0 {
                        return Err(empty("sequence"));
                    }
                    if supervised > positions - 1 {
                        return Err(LayoutError::TooManySupervised { positions, supervised });
                    }
                    total = total.checked_add(positions).ok_or(LayoutError::TooManyPositions)?;
                }
            }
        }
        Ok(Self { ranks })
    }

    /// The sequences' counts, by rank and micro-batch.
    #[must_use]
    pub fn ranks(&self) -> &[Vec<Vec<SequenceShape>>] {
        &self.ranks
    }

    /// All sequences in the canonical order.
    pub fn sequences(&self) -> impl Iterator<Item = &SequenceShape> {
        self.micro_batches().flatten()
    }

    /// All micro-batches, by rank.
    pub fn micro_batches(&self) -> impl Iterator<Item = &[SequenceShape]> {
        self.ranks.iter().flatten().map(Vec::as_slice)
    }

    /// Predictions made in all, `Σ (l − 1)`.
    #[must_use]
    pub fn predictions(&self) -> usize {
        self.sequences().map(|s| s.positions - 1).sum()
    }

    /// Supervised tokens in all, `N`.
    #[must_use]
    pub fn supervised(&self) -> usize {
        self.sequences().map(|s| s.supervised).sum()
    }
}

/// Why counts do not make a layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A group without members.
    #[error("a {group} of the layout is empty: give it at least one member")]
    Empty {
        /// The group.
        group: &'static str,
    },
    /// More supervised tokens than predictions.
    #[error("a sequence of {positions} positions makes {} predictions, {supervised} of them cannot be supervised", positions - 1)]
    TooManySupervised {
        /// Positions of the sequence.
        positions: usize,
        /// Supervised tokens claimed.
        supervised: usize,
    },
    /// More positions in all than can be counted.
    #[error("the sequences have more than {} positions together: make them shorter or fewer", usize::MAX)]
    TooManyPositions,
}
