//! How many there may be of something.

use std::fmt;

/// How many there may be of something: sequences in a micro-batch, micro-batches on a rank, positions in a
/// sequence.
///
/// ```
/// use lossproof_subject::Count;
///
/// assert!(Count::up_to(4).contains(1) && !Count::up_to(4).contains(5));
/// assert_eq!(Count::exactly(4).to_string(), "exactly 4");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The fewest.
    pub least: usize,
    /// The most.
    pub most: usize,
}

impl Count {
    /// One or more.
    pub const ANY: Self = Self { least: 1, most: usize::MAX };

    /// This many, neither more nor fewer.
    #[must_use]
    pub const fn exactly(count: usize) -> Self {
        Self { least: count, most: count }
    }

    /// One to this many.
    #[must_use]
    pub const fn up_to(most: usize) -> Self {
        Self { least: 1, most }
    }

    /// Whether there may be so many.
    #[must_use]
    pub fn contains(self, count: usize) -> bool {
        (self.least..=self.most).contains(&count)
    }

    /// Of the counts there may be, the one nearest to this one.
    #[must_use]
    pub fn nearest(self, count: usize) -> usize {
        count.max(self.least).min(self.most)
    }

    /// Whether there is no choice.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.least == self.most
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { least, most } if least == most => write!(f, "exactly {most}"),
            Self { least: 0 | 1, most: usize::MAX } => f.write_str("any number"),
            Self { least, most: usize::MAX } => write!(f, "{least} or more"),
            Self { least: 0 | 1, most } => write!(f, "up to {most}"),
            Self { least, most } => write!(f, "{least} to {most}"),
        }
    }
}
