//! How well a hypothesis agrees with what was seen, counted.

/// How well a measurement agrees with what a hypothesis says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    /// It is what was forecast.
    Exact,
    /// It is of the kind that was forecast.
    Loose,
    /// It is right where it was to be wrong.
    Poor,
    /// The hypothesis cannot have made it.
    Impossible,
}

impl Grade {
    /// The grade of a forecast that says exactly what is to be seen.
    pub(crate) fn exact_or_impossible(seen: bool) -> Self {
        if seen { Self::Exact } else { Self::Impossible }
    }
}

/// What a bug that nobody knows costs for each thing that is wrong, in nats: it may have made anything, so it is less
/// likely than a hypothesis that forecast the numbers, as likely as one that only said that this would be wrong, and
/// likelier than one that said that much else would be.
pub(crate) const UNKNOWN: f64 = 2.0;

/// What a number costs that a hypothesis leaves open where an honest trainer would not, in nats: it fits whatever is
/// seen, and could not be contradicted.
const OPEN: f64 = 0.5;

/// Everything seen that a hypothesis speaks of, by how well it agrees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Score {
    grades: [usize; 4],
    /// Numbers that it leaves open.
    open: usize,
    /// Things that are wrong and that it says nothing of.
    unforecast: usize,
    /// The first thing that the hypothesis cannot have made.
    pub(crate) first_against: Option<String>,
}

impl Score {
    /// Counts one thing; `what` says which, where the hypothesis cannot have made it.
    pub(crate) fn add(&mut self, grade: Grade, what: impl FnOnce() -> String) {
        self.grades[grade as usize] += 1;
        if grade == Grade::Impossible && self.first_against.is_none() {
            self.first_against = Some(what());
        }
    }

    /// Counts numbers that the hypothesis leaves open, and an honest trainer would not.
    pub(crate) fn leave_open(&mut self, numbers: usize) {
        self.open += numbers;
    }

    /// Counts things that are wrong, and that the hypothesis says nothing of.
    pub(crate) fn unforecast(&mut self, things: usize) {
        self.unforecast += things;
    }

    /// Adds what another score has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.open += other.open;
        self.unforecast += other.unforecast;
        self.grades.iter_mut().zip(other.grades).for_each(|(own, more)| *own += more);
        if self.first_against.is_none() {
            self.first_against.clone_from(&other.first_against);
        }
    }

    /// Whether the hypothesis says anything of some of so many things that are wrong.
    pub(crate) fn explains_some_of(&self, wrong: usize) -> bool {
        self.unforecast < wrong
    }

    /// Whether nothing speaks against the hypothesis.
    pub(crate) fn possible(&self) -> bool {
        self.against() == 0
    }

    /// Things that are as they were forecast.
    pub(crate) fn exact(&self) -> usize {
        self.grades[Grade::Exact as usize]
    }

    /// Things that the hypothesis cannot have made.
    pub(crate) fn against(&self) -> usize {
        self.grades[Grade::Impossible as usize]
    }

    /// Things that are not as they were forecast, or of which nothing was forecast.
    pub(crate) fn unexplained(&self) -> usize {
        self.total() - self.exact() + self.unforecast
    }

    /// Numbers that the hypothesis leaves open, and an honest trainer would not.
    pub(crate) fn left_open(&self) -> usize {
        self.open
    }

    /// Everything that was compared.
    pub(crate) fn total(&self) -> usize {
        self.grades.iter().sum()
    }

    /// How much less likely the hypothesis makes what was seen than one that forecasts all of it, in nats.
    ///
    /// A forecast of numbers to half of the dtype's digits that fails is as good as impossible. One that only says
    /// that something is wrong explains it no better than a bug that nobody knows, and is weaker where nothing is.
    pub(crate) fn cost(&self) -> f64 {
        let [_, loose, poor, impossible] = self.grades.map(|count| count as f64);
        let silent = OPEN * self.open as f64 + UNKNOWN * self.unforecast as f64;
        UNKNOWN * loose + 3.0 * poor + 40.0 * impossible + silent
    }
}
