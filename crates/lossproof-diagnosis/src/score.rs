//! How well a hypothesis fits what was seen, counted.

use super::model::Fit;

/// Everything seen that a hypothesis speaks of, by how well it fits.
#[derive(Clone, Debug, Default)]
pub(super) struct Score {
    fits: [usize; 4],
    /// The first thing that the hypothesis cannot have made.
    pub(super) first_against: Option<String>,
}

impl Score {
    pub(super) fn add(&mut self, fit: Fit, what: impl FnOnce() -> String) {
        self.fits[fit as usize] += 1;
        if fit == Fit::Not && self.first_against.is_none() {
            self.first_against = Some(what());
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.fits.iter_mut().zip(other.fits).for_each(|(own, more)| *own += more);
        if self.first_against.is_none() {
            self.first_against.clone_from(&other.first_against);
        }
    }

    /// Whether nothing speaks against it.
    pub(super) fn possible(&self) -> bool {
        self.against() == 0
    }

    /// Things that are as they were predicted.
    pub(super) fn exact(&self) -> usize {
        self.fits[Fit::Exactly as usize]
    }

    /// Things that it cannot have made.
    pub(super) fn against(&self) -> usize {
        self.fits[Fit::Not as usize]
    }

    /// Everything that was compared.
    pub(super) fn total(&self) -> usize {
        self.fits.iter().sum()
    }

    /// How much less likely it makes what was seen than a hypothesis that predicts all of it, in nats.
    ///
    /// A prediction of numbers to half of the dtype's digits that fails is as good as impossible; one that only says that
    /// something is wrong is weak where it succeeds, and weaker where nothing is.
    pub(super) fn cost(&self) -> f64 {
        let [_, loosely, poorly, not] = self.fits.map(|count| count as f64);
        loosely + 3.0 * poorly + 40.0 * not
    }
}
