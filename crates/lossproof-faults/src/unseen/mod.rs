//! Bugs outside the catalogue: a diagnosis that was made for known bugs is measured by how it takes these.
//!
//! No hypothesis may be made for one of them. A bug that gets one moves into the catalogue, and another takes
//! its place here.

mod accumulation;
mod attention;
mod backward;
mod data;
mod logging;
mod loss;
mod step;

use crate::{faulty::Faulty, trainer::TrainerParts};
use lossproof_subject::Subject;
use std::fmt;

/// A bug that is not in the catalogue, and a trainer that has it.
#[derive(Clone, Copy)]
pub struct Unseen {
    /// Names it.
    pub id: &'static str,
    /// What is wrong, in one phrase.
    pub what: &'static str,
    /// Where it was seen; `None` for mistakes of which no shipped instance is known.
    pub source: Option<&'static str>,
    trainer: TrainerParts,
}

/// The bugs, from the data path to what is printed.
const PLACES: [&[Unseen]; 7] =
    [data::BUGS, attention::BUGS, loss::BUGS, accumulation::BUGS, backward::BUGS, step::BUGS, logging::BUGS];

impl Unseen {
    /// Every bug, from the data path to what is printed.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        PLACES.into_iter().flatten()
    }

    /// The bug with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|bug| bug.id == id)
    }

    /// An honest subject with this bug. It has the capabilities of the honest one; what it needs of that is
    /// as with [`Fault::inject`](crate::Fault::inject).
    #[must_use]
    pub fn inject(&self, honest: Box<dyn Subject>) -> Box<dyn Subject> {
        Box::new(Faulty::new(honest, self.trainer))
    }
}

impl fmt::Debug for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unseen").field("id", &self.id).field("what", &self.what).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{without_fault, witnesses::Witnesses};
    use lossproof_cases::strategies::Size;
    use lossproof_diagnosis::Bug;
    use lossproof_gpt2::{Config, reference};
    use lossproof_spec::{Dtype, LossSpec};
    use lossproof_subject::Device;
    use std::collections::BTreeSet;

    fn honest() -> Box<dyn Subject> {
        reference(Config::Pico, Dtype::F64, Device::Cpu).expect("the reference can be made")
    }

    #[test]
    fn ids_are_unique_find_their_bugs_and_are_in_no_catalogue() {
        let ids: BTreeSet<_> = Unseen::all().map(|bug| bug.id).collect();
        assert_eq!(ids.len(), Unseen::all().count());
        for bug in Unseen::all() {
            assert_eq!(Unseen::named(bug.id).map(|found| found.what), Some(bug.what));
            assert_eq!(Bug::named(bug.id), None, "{}", bug.id);
        }
        assert!(Unseen::named("shift-thrice").is_none());
    }

    #[test]
    fn texts_are_phrases_and_sources_addresses() {
        for bug in Unseen::all() {
            assert!(!bug.what.is_empty() && !bug.what.ends_with('.'), "{}", bug.id);
            assert!(!bug.what.contains(['\n', '|']) && !bug.what.contains("  "), "{}", bug.id);
            assert!(bug.source.is_none_or(|source| source.starts_with("https://")), "{}", bug.id);
        }
    }

    /// Under a plain loss or a composed one, which is asked for by declaring it.
    fn changes_an_answer(bug: &Unseen) -> bool {
        let witnesses = Witnesses { count: 96, size: Size::default(), seed: 0 };
        let plain = LossSpec::token_mean();
        let composed = LossSpec { label_smoothing: 0.125, z_loss: 1e-3, ..plain };
        [plain, composed].iter().any(|spec| {
            let (mut unbroken, mut broken) = (without_fault(honest()), bug.inject(honest()));
            unbroken.configure(spec).expect("the reference has every loss");
            broken.configure(spec).expect("the reference has every loss");
            witnesses.tell_apart(&mut *unbroken, &mut *broken)
        })
    }

    /// A row without a part replaced answers as the honest trainer, and fails here.
    #[test]
    fn every_bug_changes_an_answer() {
        let unchanged: Vec<_> =
            Unseen::all().filter(|bug| !changes_an_answer(bug)).map(|bug| bug.id).collect();
        assert_eq!(unchanged, [""; 0]);
    }

    #[test]
    fn a_trainer_with_nothing_replaced_changes_none() {
        let nothing = Unseen { id: "nothing", what: "nothing", source: None, trainer: TrainerParts::HONEST };
        assert!(!changes_an_answer(&nothing));
    }
}
