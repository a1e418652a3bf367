//! Which labels of a document are ignored.

use super::draft::Token;
use rand::{Rng, RngExt};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    /// Every label is given.
    Nothing,
    /// The first ones are ignored.
    Prompt,
    /// The last ones are ignored.
    Suffix,
    /// A few single ones are ignored.
    Holes,
    /// Each is ignored or not.
    Random,
    /// One end-of-sequence token is supervised, the ones after it are padding by another name.
    EosAsPadding,
    /// Everything a prediction is scored against is ignored.
    Everything,
}

impl Mask {
    /// Ignores labels of `document`; all but [`Mask::Everything`] leave at least one prediction supervised if
    /// there is one. The first label, against which nothing is scored, is given or ignored either way.
    pub(super) fn apply(self, random: &mut impl Rng, document: &mut [Token], eos: u32) {
        let length = document.len();
        if !matches!(self, Self::Nothing | Self::Prompt) {
            document[0].labelled = random.random();
        }
        match self {
            Self::Nothing => {}
            Self::Prompt => ignore(&mut document[..random.random_range(1..length.max(2))]),
            Self::Suffix => {
                let kept = random.random_range(2..length.max(3)).min(length);
                ignore(&mut document[kept..]);
            }
            Self::Holes => {
                for _ in 0..random.random_range(1..=3) {
                    document[random.random_range(0..length)].labelled = false;
                }
            }
            Self::Random => document[1..].iter_mut().for_each(|token| token.labelled = random.random()),
            Self::EosAsPadding => {
                let end = random.random_range(1..length.max(3) - 1).min(length);
                document[end..].iter_mut().for_each(|token| token.id = eos);
                ignore(&mut document[(end + 1).min(length)..]);
            }
            Self::Everything => ignore(&mut document[1..]),
        }
        let predicted = &mut document[1..];
        if self != Self::Everything && !predicted.is_empty() && predicted.iter().all(|token| !token.labelled)
        {
            let kept = random.random_range(0..predicted.len());
            predicted[kept].labelled = true;
        }
    }
}

fn ignore(tokens: &mut [Token]) {
    for token in tokens {
        token.labelled = false;
    }
}
