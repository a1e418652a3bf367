//! The catalogue of bugs: what each is, where it was seen, which clauses it violates, and what mends it.
//!
//! It is the only list of them. `lossproof-faults` re-creates its bugs in an otherwise honest trainer, the
//! hypotheses of this crate are what a diagnosis recognises them by, and the `faults` command writes it into
//! `docs/bugs.md`; all three go by a bug's id.

mod accumulation;
mod alignment;
mod attention;
mod backward;
mod cross_entropy;
mod logging;
mod masking;
mod objectives;
mod optimizer;
mod ranks;
mod training;

use std::fmt;

/// A bug that a trainer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// Names it.
    pub id: &'static str,
    /// What kind of bug it is.
    pub family: Family,
    /// What is wrong.
    pub what: &'static str,
    /// Where it was seen, and in remarks how sure that is; `None` for mistakes that are easily made and of
    /// which no shipped instance is known.
    pub source: Option<&'static str>,
    /// The clauses of `docs/SPEC.md` that it violates; none where it is omitted.
    pub clauses: &'static [&'static str],
    /// What to change.
    pub remedy: &'static str,
    /// Why it is not re-created, where it is not.
    pub omitted: Option<&'static str>,
}

/// What kind of bug a bug is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Which weight a token loss has, and how micro-batches and ranks are put together.
    Accumulation,
    /// Which label a prediction is scored against.
    Alignment,
    /// What is ignored, and what is added to the cross-entropy.
    Masking,
    /// The token loss and its gradient.
    CrossEntropy,
    /// What is reported.
    Logging,
    /// The backward pass.
    Backward,
    /// What a position sees.
    Attention,
    /// Clipping, schedule and update.
    Optimizer,
    /// What only a whole training shows.
    Training,
    /// What is learnt where it is not the next token.
    Objectives,
    /// What only ranks that are apart show.
    Ranks,
}

impl Family {
    /// Whether one loss and its gradient have to show its bugs: what is weighed, scored, masked or logged.
    #[must_use]
    pub const fn is_of_weights(self) -> bool {
        matches!(self, Self::Accumulation | Self::Alignment | Self::Masking | Self::Logging)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accumulation => "reduction and gradient accumulation",
            Self::Alignment => "label shift and alignment",
            Self::Masking => "masking, padding and composed losses",
            Self::CrossEntropy => "cross-entropy kernels and numerics",
            Self::Logging => "evaluation and logging",
            Self::Backward => "backward operators and graph",
            Self::Attention => "attention, positions and packing",
            Self::Optimizer => "clipping, optimizer and schedule",
            Self::Training => "the training loop",
            Self::Objectives => "other objectives",
            Self::Ranks => "ranks that are apart",
        })
    }
}

/// The bugs of every family, in the order of [`Family`].
const FAMILIES: [&[Bug]; 8] = [
    accumulation::BUGS,
    alignment::BUGS,
    masking::BUGS,
    cross_entropy::BUGS,
    logging::BUGS,
    backward::BUGS,
    attention::BUGS,
    optimizer::BUGS,
];

impl Bug {
    /// Every bug that loss, gradient, steps or a validation by itself show, family by family.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FAMILIES.into_iter().flatten()
    }

    /// Every bug that only a whole training shows.
    pub fn of_training() -> impl Iterator<Item = &'static Self> {
        training::BUGS.iter()
    }

    /// Every bug of what is learnt beside the next token.
    pub fn of_objectives() -> impl Iterator<Item = &'static Self> {
        objectives::BUGS.iter()
    }

    /// Every bug that only ranks in processes of their own show.
    pub fn of_ranks() -> impl Iterator<Item = &'static Self> {
        ranks::BUGS.iter()
    }

    /// The bug of ranks with this id. In a constant, an id that is not one of theirs does not compile.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub const fn of_ranks_named(id: &str) -> &'static Self {
        one_of(ranks::BUGS, id)
    }

    /// The bug of a training with this id. In a constant, an id that is not one of theirs does not compile.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub const fn of_training_named(id: &str) -> &'static Self {
        one_of(training::BUGS, id)
    }

    /// The bug of an objective with this id. In a constant, an id that is not one of theirs does not compile.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub const fn of_objectives_named(id: &str) -> &'static Self {
        one_of(objectives::BUGS, id)
    }

    /// The bug with this id.
    #[must_use]
    pub const fn named(id: &str) -> Option<&'static Self> {
        let mut family = 0;
        while family < FAMILIES.len() {
            let bugs = FAMILIES[family];
            let mut index = 0;
            while index < bugs.len() {
                if same(bugs[index].id, id) {
                    return Some(&bugs[index]);
                }
                index += 1;
            }
            family += 1;
        }
        None
    }

    /// The bug with this id, of those that are re-created. In a constant, an id that is not one of theirs
    /// does not compile.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub const fn recreated(id: &str) -> &'static Self {
        let bug = Self::named(id).expect("no bug of the catalogue has this id");
        assert!(bug.omitted.is_none(), "the bug is omitted");
        bug
    }
}

/// The bug with this id among these.
///
/// # Panics
/// When there is none.
const fn one_of(bugs: &'static [Bug], id: &str) -> &'static Bug {
    let mut index = 0;
    while index < bugs.len() {
        if same(bugs[index].id, id) {
            return &bugs[index];
        }
        index += 1;
    }
    panic!("no bug of this list has this id")
}

/// Whether two strings are equal, in constants too.
const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::CLAUSES;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_find_their_bugs() {
        let ids: BTreeSet<_> = Bug::all().map(|bug| bug.id).collect();
        assert_eq!(ids.len(), Bug::all().count());
        assert!(Bug::all().all(|bug| Bug::named(bug.id) == Some(bug)));
        assert_eq!(Bug::named("shift-thrice"), None);
    }

    #[test]
    fn families_stand_in_their_order() {
        assert!(Bug::all().is_sorted_by_key(|bug| bug.family));
        assert!(FAMILIES.iter().all(|bugs| bugs.iter().all(|bug| bug.family == bugs[0].family)));
    }

    #[test]
    fn every_bug_violates_a_clause_that_has_a_law_or_says_why_it_is_omitted() {
        for bug in Bug::all() {
            assert_eq!(bug.clauses.is_empty(), bug.omitted.is_some(), "{}", bug.id);
            for id in bug.clauses {
                assert!(CLAUSES.iter().any(|clause| clause.id == *id), "{}: {id}", bug.id);
            }
        }
        let group = |clause: &&'static str| clause.split('.').next();
        let groups: BTreeSet<_> = Bug::all().flat_map(|bug| bug.clauses).filter_map(group).collect();
        assert_eq!(groups, BTreeSet::from(["1", "2", "3", "4", "5", "6", "7", "8"]));
    }

    #[test]
    fn bugs_of_a_training_and_of_objectives_have_ids_of_their_own_and_clauses() {
        let mut ids: BTreeSet<_> = Bug::all().map(|bug| bug.id).collect();
        for bug in Bug::of_training().chain(Bug::of_objectives()).chain(Bug::of_ranks()) {
            // One that is omitted as a bug of a step, for want of a loop, is one here.
            let omitted = Bug::named(bug.id).is_some_and(|bug| bug.omitted.is_some());
            assert!(ids.insert(bug.id) || omitted, "{}", bug.id);
            assert!(!bug.clauses.is_empty() && bug.family >= Family::Training, "{}", bug.id);
            for id in bug.clauses {
                assert!(CLAUSES.iter().any(|clause| clause.id == *id), "{}: {id}", bug.id);
            }
        }
    }

    #[test]
    fn texts_are_phrases_that_fit_into_a_line_and_a_table() {
        for bug in Bug::all().chain(Bug::of_training()).chain(Bug::of_objectives()).chain(Bug::of_ranks()) {
            for text in [bug.what, bug.remedy].into_iter().chain(bug.source).chain(bug.omitted) {
                assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", bug.id);
                assert!(!text.contains(['\n', '|']) && !text.contains("  "), "{}: {text}", bug.id);
            }
        }
    }
}
