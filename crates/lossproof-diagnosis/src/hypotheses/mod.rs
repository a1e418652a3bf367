//! What may be wrong with a trainer: one hypothesis for every known bug, each a [`Model`] that predicts what is measured.

mod data;
mod evaluation;
mod kernels;
mod operators;
mod step;
mod weights;

use super::model::Model;
use std::fmt;

/// A known bug, and what a trainer that has it computes.
#[derive(Clone, Copy)]
pub struct Hypothesis {
    /// Names it, as `lossproof-faults` does.
    pub id: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// Where it was seen; `None` where no shipped instance is known.
    pub seen_in: Option<&'static str>,
    /// What to change.
    pub remedy: &'static str,
    pub(super) model: Model,
}

impl fmt::Debug for Hypothesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hypothesis").field(&self.id).finish()
    }
}

/// By where in a trainer the mistake sits.
const HYPOTHESES: [&[Hypothesis]; 6] = [
    data::HYPOTHESES,
    weights::HYPOTHESES,
    kernels::HYPOTHESES,
    operators::HYPOTHESES,
    step::HYPOTHESES,
    evaluation::HYPOTHESES,
];

impl Hypothesis {
    /// Every hypothesis, from the data path to the optimizer step.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        HYPOTHESES.into_iter().flatten()
    }

    /// The hypothesis with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|hypothesis| hypothesis.id == id)
    }
}

/// A hypothesis: id, what is wrong, where it was seen, the remedy, and the parts of the model that are not honest.
macro_rules! hypothesis {
    ($id:literal, $what:literal, $seen_in:expr, $remedy:literal, { $($part:ident: $value:expr),* $(,)? }) => {
        $crate::hypotheses::Hypothesis {
            id: $id,
            what: $what,
            seen_in: $seen_in,
            remedy: $remedy,
            model: $crate::model::Model { $($part: $value,)* ..$crate::model::Model::HONEST },
        }
    };
}
use hypothesis;
