//! The semantics that weigh the tokens of a batch alike, and how weights are said.

use super::{batch::Batch, semantics::Semantics};
use crate::number::fraction;
use lossproof_spec::{Fraction, LossSpec, TokenWeights};

/// Semantics that weigh every token of a batch alike, in the order of their letters; never empty.
pub(super) struct Class {
    pub(super) members: Vec<Semantics>,
    pub(super) weights: TokenWeights,
}

/// The classes of all semantics that are of interest for a batch.
pub(super) fn classes(batch: &Batch) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    for &semantics in Semantics::all(batch) {
        let weights = weigh(&semantics.spec(), batch);
        match classes.iter_mut().find(|class| class.weights == weights) {
            Some(class) => class.members.push(semantics),
            None => classes.push(Class { members: vec![semantics], weights }),
        }
    }
    classes
}

/// The weights of a semantics on a batch.
pub(super) fn weigh(spec: &LossSpec, batch: &Batch) -> TokenWeights {
    TokenWeights::new(spec, &batch.layout).expect("invariant: these semantics count an empty group as zero")
}

/// The weight of a supervised token, or the least and the most of them.
pub(super) fn span<'a>(weights: impl Iterator<Item = &'a Fraction>) -> String {
    let extremes = weights.fold(None, |extremes, weight| match extremes {
        None => Some((weight, weight)),
        Some((least, most)) => Some((weight.min(least), weight.max(most))),
    });
    match extremes {
        Some((least, most)) if least != most => format!("{}…{}", fraction(least), fraction(most)),
        Some((weight, _)) => fraction(weight),
        None => String::new(),
    }
}

/// The letters of semantics.
pub(super) fn letters(semantics: &[Semantics], separator: &str) -> String {
    let letters: Vec<_> = semantics.iter().map(|s| s.letter().to_string()).collect();
    letters.join(separator)
}
