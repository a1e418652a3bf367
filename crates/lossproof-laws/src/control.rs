//! The negative control of a law: on the tape of the case that certified a unit best, with one answer
//! changed, it must fail.

use crate::{
    Law,
    change::{Change, NUMBERS},
    playback::{Changed, Playback},
    tape::Tape,
    trial::{Facts, Turn},
    weights::{SCALE, WEIGHTS},
};
use lossproof_cases::Case;
use lossproof_numerics::{CONTROL, Comparisons, Control, Unit};
use std::{
    cell::{OnceCell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

/// A case that was tried, with everything that the subject answered.
#[derive(Clone, Debug)]
pub(crate) struct Taped {
    pub(crate) case: Case,
    pub(crate) tape: Tape,
    /// What was looked at.
    pub(crate) turn: Turn,
}

/// Tapes of fewer answers are searched one by one.
const LONG: usize = 8;

/// How many answers are remembered, and tried before a search.
const REMEMBERED: usize = 3;

/// What a law said of a tape with some answers changed, which it says in every unit at once.
#[derive(Debug)]
struct Outcome {
    taped: Rc<Taped>,
    changed: (Changed, Change),
    comparisons: Comparisons,
}

/// A search for the answer whose change makes a law fail in one unit.
struct Search<'a> {
    law: &'a Law,
    name: &'a str,
    taped: &'a Rc<Taped>,
    facts: Facts,
    /// Those that are known.
    outcomes: &'a RefCell<Vec<Outcome>>,
    /// In how many contexts the case was tried: what is judged by its mean is changed in every one.
    contexts: usize,
    unit: Unit,
    /// Whether some answer has a block of the unit's name, once somebody has asked.
    is_block: OnceCell<bool>,
}

impl<'a> Search<'a> {
    fn new(
        law: &'a Law,
        (name, unit): (&'a str, Unit),
        taped: &'a Rc<Taped>,
        facts: &Facts,
        outcomes: &'a RefCell<Vec<Outcome>>,
    ) -> Self {
        let tape = &taped.tape;
        let facts = facts.at(taped.turn);
        let contexts = law.contexts(&facts);
        let contexts = if tape.len().is_multiple_of(contexts) { contexts } else { 1 };
        Self { law, name, taped, facts, outcomes, contexts, unit, is_block: OnceCell::new() }
    }

    fn is_block(&self) -> bool {
        let tape = &self.taped.tape;
        let somewhere = || (0..tape.len()).any(|answer| tape.block(answer, self.name).is_some());
        *self.is_block.get_or_init(somewhere)
    }

    /// What the unit is multiplied by; any change will do where there is none.
    fn factor(&self) -> Option<f64> {
        match self.unit.control {
            Control::Factor => Some(1.0 + CONTROL * self.unit.power),
            Control::Zero => Some(0.0),
            Control::Any => None,
        }
    }

    /// How many answers there are, in one context where there are several.
    fn answers(&self) -> usize {
        self.taped.tape.len() / self.contexts
    }

    fn fails_if(&self, changed: Changed, change: Change) -> bool {
        let changed = (changed, change);
        let mut known = self.outcomes.borrow_mut();
        let is_it = |known: &&Outcome| Rc::ptr_eq(&known.taped, self.taped) && known.changed == changed;
        if let Some(outcome) = known.iter().find(is_it) {
            return outcome.comparisons.violates(self.name);
        }
        let mut playback = Playback::subject(&self.taped.tape, changed.clone());
        let comparisons = self.law.replay(&mut playback, &self.taped.case, &self.facts).comparisons;
        let fails = comparisons.violates(self.name);
        if !changed.1.is_of_one_unit() {
            known.push(Outcome { taped: Rc::clone(self.taped), changed, comparisons });
        }
        fails
    }

    /// Whether the law fails with every answer as it was: then a change shows nothing.
    fn fails_unchanged(&self) -> bool {
        self.fails_if(Changed::Range(0, 0), Change::Everything)
    }

    /// Whether one of these changes of this answer makes the law fail.
    fn fails_at(&self, answer: usize, changes: Vec<Change>) -> bool {
        let changed = match self.contexts {
            1 => Changed::Range(answer, answer + 1),
            _ => Changed::InEachContext(answer, self.answers()),
        };
        changes.into_iter().any(|change| self.fails_if(changed, change))
    }

    /// The changes of an answer that mostly show: those of what the unit names, and where any will do, all but those
    /// of [`further_changes`](Self::further_changes).
    fn changes(&self, answer: usize) -> Vec<Change> {
        let tape = &self.taped.tape;
        let Some(factor) = self.factor() else {
            let mut changes = vec![Change::Everything, Change::Nothing];
            if tape.is_training(answer) {
                changes.extend([
                    Change::Parameters,
                    Change::Multiples,
                    Change::Samples,
                    Change::SamplesAgain,
                ]);
                // A training has many numbers, of which what is judged is sometimes only the first that is wrong.
                changes.extend(self.numbers(answer, 1.5));
            }
            changes.extend(tape.former(answer).take(1).map(Change::Like));
            return changes;
        };
        if [WEIGHTS, SCALE].contains(&self.name) {
            return vec![Change::Gradient(factor)];
        }
        if let Some(block) = tape.block(answer, self.name) {
            return vec![Change::Block(block, factor)];
        }
        if tape.has_parameter(self.name) {
            return vec![Change::Tensor(self.name.to_owned(), factor)];
        }
        if self.is_block() { Vec::new() } else { self.numbers(answer, factor) }
    }

    /// The others: answers that came earlier, and the numbers of an answer that lacks the unit's block.
    fn further_changes(&self, answer: usize) -> Vec<Change> {
        let tape = &self.taped.tape;
        match self.factor() {
            None => tape.former(answer).skip(1).map(Change::Like).collect(),
            Some(factor) if self.changes(answer).is_empty() => self.numbers(answer, factor),
            Some(_) => Vec::new(),
        }
    }

    /// A factor on each kind of number that an answer has.
    fn numbers(&self, answer: usize, factor: f64) -> Vec<Change> {
        let kinds = (0..NUMBERS).filter(|&kind| self.taped.tape.has_number(answer, kind));
        kinds.map(|kind| Change::Number(kind, factor)).collect()
    }

    /// The answer of which one of these changes makes the law fail, found by halves: of many answers that make it fail
    /// when all are changed, those in one half mostly do so alone. Where all changed alike agree again, as a loss does
    /// with itself, a part that does not fail is halved as long as it is more than a quarter of all.
    fn by_halves(&self, changes: &[Change]) -> Option<usize> {
        let answers = self.answers();
        let mut ranges: VecDeque<_> = changes.iter().map(|change| (change, 0, answers)).collect();
        while let Some((change, from, to)) = ranges.pop_front() {
            let fails = self.fails_if(Changed::Range(from, to), change.clone());
            let middle = from + (to - from) / 2;
            if fails && to - from == 1 {
                return Some(from);
            } else if fails {
                ranges.push_front((change, from, middle));
                ranges.push_front((change, middle, to));
            } else if 4 * (to - from) > answers {
                ranges.push_back((change, middle, to));
                ranges.push_back((change, from, middle));
            }
        }
        None
    }

    /// The same for a factor on what the unit names, on a long tape: a tensor, or else one of the numbers of an
    /// answer.
    fn factor_by_halves(&self) -> Option<usize> {
        let tape = &self.taped.tape;
        let factor = self.factor().filter(|_| self.contexts == 1 && tape.len() >= LONG)?;
        if tape.has_parameter(self.name) {
            return self.by_halves(&[Change::Tensor(self.name.to_owned(), factor)]);
        }
        if [WEIGHTS, SCALE].contains(&self.name) || self.is_block() {
            return None;
        }
        let has = |kind: usize| (0..self.answers()).any(|answer| tape.has_number(answer, kind));
        let kinds = (0..NUMBERS).filter(|&kind| has(kind));
        self.by_halves(&kinds.map(|kind| Change::Number(kind, factor)).collect::<Vec<_>>())
    }

    /// Whether the law fails where the unit is taken out of every answer, if zero is what it should not pass with:
    /// what is there in one of several answers is there.
    fn fails_without(&self) -> bool {
        let tape = &self.taped.tape;
        let everywhere = |change: Change| self.fails_if(Changed::Range(0, tape.len()), change);
        let changes = |answer: usize| [self.changes(answer), self.further_changes(answer)].concat();
        self.unit.control == Control::Zero && (0..tape.len()).flat_map(changes).any(everywhere)
    }
}

/// The negative controls of a law's units, one after the other.
#[derive(Debug)]
pub(crate) struct Controls<'a> {
    law: &'a Law,
    facts: &'a Facts,
    /// Answers whose change made the law fail in an earlier unit, the last found first. The tensors of a gradient are
    /// mostly judged by the same ones, so that most units take one trial instead of a search.
    ///
    /// They say where to look first and prove nothing, since each is tried again; on another tape they are a guess.
    found: Vec<usize>,
    outcomes: RefCell<Vec<Outcome>>,
}

impl<'a> Controls<'a> {
    pub(crate) fn new(law: &'a Law, facts: &'a Facts) -> Self {
        Self { law, facts, found: Vec::new(), outcomes: RefCell::default() }
    }

    /// Whether the law holds in this unit on the tape as it is, and fails in it when one answer is changed by as much
    /// as the unit's control says: in each context where there are several, and in all answers where
    /// [`Search::fails_without`] says so.
    pub(crate) fn catches(&mut self, name: &str, unit: Unit, taped: &Rc<Taped>) -> bool {
        let search = Search::new(self.law, (name, unit), taped, self.facts, &self.outcomes);
        if search.fails_unchanged() {
            return false;
        }
        let answers = search.answers();
        let fails = |&answer: &usize| search.fails_at(answer, search.changes(answer));
        let fails_further = |&answer: &usize| search.fails_at(answer, search.further_changes(answer));
        let mut remembered = self.found.iter().copied().filter(|&answer| answer < answers);
        let found = remembered
            .find(fails)
            .or_else(|| search.factor_by_halves())
            .or_else(|| from_both_ends(answers).find(fails))
            .or_else(|| from_both_ends(answers).find(fails_further));
        let Some(answer) = found else { return search.fails_without() };
        self.found.retain(|&earlier| earlier != answer);
        self.found.insert(0, answer);
        self.found.truncate(REMEMBERED);
        true
    }
}

/// Numbers below this one, from the last and the first inwards: what is judged mostly comes after what it is judged
/// by, or else before everything.
fn from_both_ends(count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |step| if step % 2 == 0 { count - 1 - step / 2 } else { step / 2 })
}

#[cfg(test)]
mod tests;
