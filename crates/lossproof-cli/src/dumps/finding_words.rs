//! What is said of gradients that something is wrong with.

use crate::number::grouped;
use lossproof_dumps::{Finding, MissingBecause, State};

/// A finding as a sentence.
pub(super) fn said(finding: &Finding) -> String {
    match finding {
        Finding::NotFinite { name, state: State { nans, infinities, first_not_finite, elements, .. } } => {
            let first = first_not_finite.unwrap_or(0);
            format!(
                "no number: {name} has {} NaN and {} infinite among its {} values, the first at index {first}",
                grouped(nans),
                grouped(infinities),
                grouped(elements),
            )
        }
        Finding::Missing { name, because: MissingBecause::IsAParameter } => {
            format!("no gradient: {name} is a parameter")
        }
        Finding::Missing { name, because: MissingBecause::OthersHaveOne } => {
            format!("no gradient: {name}, and most other blocks have one")
        }
        Finding::Missing { name, because: MissingBecause::OthersHaveTheLayer } => {
            format!("no gradient: {name}; most other blocks have the layer, and this one has nothing of it")
        }
        Finding::Zero { names, of: 1 } => format!("zero: {}", names.join(", ")),
        Finding::Zero { names, of } => format!("zero: {} of {of} alike: {}", names.len(), names.join(", ")),
        Finding::OutOfLine { name, factor, spread, siblings } => format!(
            "out of line: {name} is {factor:.3} times the median of its {siblings} siblings, half of which are within a factor of \
             {spread:.2} of it"
        ),
        Finding::Equal { names, matrices: true } => {
            format!("the same to the bit: {}: one parameter under several names?", names.join(", "))
        }
        Finding::Equal { names, matrices: false } => {
            format!("the same to the bit: {}; so are biases that are added to one sum", names.join(", "))
        }
        other => format!("{other:?}"),
    }
}
