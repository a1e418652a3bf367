//! What may be wrong with a trainer: hypotheses of every bug that is re-created, each with a model of a trainer that
//! forecasts what is measured.

mod accumulation;
mod conventions;
mod data;
mod evaluation;
mod kernels;
mod operators;
mod step;
mod weights;

use crate::{call::Weighing, catalogue::Bug, trainer_model::TrainerModel};
use lossproof_spec::{MicroBatch, Sequence};
use std::fmt;

/// A known bug, and what a trainer that has it computes.
#[derive(Clone, Copy)]
pub struct Hypothesis {
    /// The bug.
    pub bug: &'static Bug,
    pub(crate) model: TrainerModel,
}

impl fmt::Debug for Hypothesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hypothesis").field(&self.bug.id).finish()
    }
}

/// The hypotheses, by where in a trainer the mistake sits.
const HYPOTHESES: [&[Hypothesis]; 8] = [
    data::HYPOTHESES,
    weights::HYPOTHESES,
    accumulation::HYPOTHESES,
    kernels::HYPOTHESES,
    operators::HYPOTHESES,
    step::HYPOTHESES,
    evaluation::HYPOTHESES,
    conventions::HYPOTHESES,
];

impl Hypothesis {
    /// Every hypothesis, from the data path to the optimizer step. Of a bug that is made otherwise in trainers of
    /// other conventions there are several.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        HYPOTHESES.into_iter().flatten()
    }

    /// The first hypothesis of the bug with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|hypothesis| hypothesis.bug.id == id)
    }
}

/// A trainer without a mistake: what the models of hypotheses differ from.
const HONEST: TrainerModel = TrainerModel::HONEST;

/// The hypothesis of a bug of the catalogue.
const fn hypothesis(id: &str, model: TrainerModel) -> Hypothesis {
    Hypothesis { bug: Bug::recreated(id), model }
}

/// The hypothesis of a bug of the catalogue that lies in what is weighed alone.
const fn weighs(id: &str, gradient: Weighing) -> Hypothesis {
    hypothesis(id, TrainerModel { gradient, ..HONEST })
}

/// Whether the sequences of a micro-batch are of unequal lengths, so that it is filled up to one width.
fn is_ragged(micro_batch: &MicroBatch) -> bool {
    let mut lengths = micro_batch.sequences().iter().map(Sequence::len);
    let first = lengths.next();
    lengths.any(|length| Some(length) != first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_bug_that_is_recreated_has_a_hypothesis() {
        let hypotheses: BTreeSet<_> = Hypothesis::all().map(|hypothesis| hypothesis.bug.id).collect();
        let recreated = Bug::all().filter(|bug| bug.omitted.is_none()).map(|bug| bug.id);
        assert_eq!(recreated.collect::<BTreeSet<_>>(), hypotheses);
    }
}
