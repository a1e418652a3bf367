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
use lossproof_numerics::{CONTROL, Control, Unit};
use std::rc::Rc;

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

/// A search for the answer whose change makes a law fail in one unit.
struct Search<'a> {
    law: &'a Law,
    name: &'a str,
    taped: &'a Taped,
    facts: Facts,
    /// In how many contexts the case was tried: what is judged by its mean is changed in every one.
    contexts: usize,
}

impl Search<'_> {
    /// The answers, of one context where there are several.
    fn answers(&self) -> usize {
        self.taped.tape.len() / self.contexts
    }

    fn fails_if(&self, changed: Changed, change: Change) -> bool {
        let mut playback = Playback::subject(&self.taped.tape, (changed, change));
        let tried = self.law.try_with(&mut playback, &self.taped.case, &self.facts);
        tried.comparisons.violates(self.name)
    }

    fn fails(&self, answer: usize, change: Change) -> bool {
        if self.contexts == 1 {
            self.fails_if(Changed::Range(answer, answer + 1), change)
        } else {
            self.fails_if(Changed::InEachContext(answer, self.answers()), change)
        }
    }

    /// Whether the change of one answer makes the law fail, found by halves: of many answers that make it fail when
    /// all are changed, those in one half mostly do so alone. `false` where that leads to none, as where all changed
    /// alike agree again.
    fn finds_by_halves(&self, change: &Change) -> bool {
        let fails = |from: usize, to: usize| self.fails_if(Changed::Range(from, to), change.clone());
        let (mut from, mut to) = (0, self.answers());
        if !fails(from, to) {
            return false;
        }
        while to - from > 1 {
            let middle = from + (to - from) / 2;
            if fails(middle, to) {
                from = middle;
            } else if fails(from, middle) {
                to = middle;
            } else {
                return false;
            }
        }
        true
    }

    /// The same for a factor on what the unit names: a tensor, or else one of the numbers of an answer.
    fn finds_factor_by_halves(&self, factor: f64) -> bool {
        let tape = &self.taped.tape;
        if self.contexts > 1 || tape.len() < LONG {
            return false;
        }
        if tape.has_parameter(self.name) {
            return self.finds_by_halves(&Change::Tensor(self.name.to_owned(), factor));
        }
        let is_block = |answer: usize| tape.block(answer, self.name).is_some();
        if [WEIGHTS, SCALE].contains(&self.name) || (0..self.answers()).any(is_block) {
            return false;
        }
        let has = |kind: usize| (0..self.answers()).any(|answer| tape.has_number(answer, kind));
        (0..NUMBERS).any(|kind| has(kind) && self.finds_by_halves(&Change::Number(kind, factor)))
    }
}

/// Whether some change of one answer, as large as the unit's control says, makes the law fail in this unit.
pub(crate) fn caught(law: &Law, name: &str, unit: Unit, taped: &Rc<Taped>, facts: &Facts) -> bool {
    let tape = &taped.tape;
    let facts = facts.at(taped.turn);
    let contexts = law.contexts(&facts);
    let contexts = if tape.len().is_multiple_of(contexts) { contexts } else { 1 };
    let search = Search { law, name, taped, facts, contexts };
    let factor = match unit.control {
        Control::Factor => Some(1.0 + CONTROL * unit.power),
        Control::Zero => Some(0.0),
        Control::Any => None,
    };
    if factor.is_some_and(|factor| search.finds_factor_by_halves(factor)) {
        return true;
    }
    let fails = |answer: usize, change: Change| search.fails(answer, change);
    // What is judged mostly comes after what it is judged by.
    for answer in (0..search.answers()).rev() {
        let found = match factor {
            Some(factor) => fails_by(tape, answer, name, factor, &fails),
            None => {
                fails(answer, Change::Everything)
                    || fails(answer, Change::Nothing)
                    || fails(answer, Change::Parameters)
                    || fails(answer, Change::Multiples)
                    || fails(answer, Change::Samples)
                    || fails(answer, Change::SamplesAgain)
                    || fails_by_a_number(tape, answer, &fails)
                    || tape.former(answer).any(|former| fails(answer, Change::Like(former)))
            }
        };
        if found {
            return true;
        }
    }
    // What is there in one of several answers is there: it is taken away from all of them.
    let everywhere = |_: usize, change: Change| search.fails_if(Changed::Range(0, tape.len()), change);
    unit.control == Control::Zero
        && (0..tape.len()).any(|answer| fails_by(tape, answer, name, 0.0, &everywhere))
}

/// Whether a factor on one kind of number of a training makes the law fail: a training has many, of which what is
/// judged is sometimes only the first that is wrong.
fn fails_by_a_number(tape: &Tape, answer: usize, fails: &impl Fn(usize, Change) -> bool) -> bool {
    let has = |kind: usize| tape.is_training(answer) && tape.has_number(answer, kind);
    (0..NUMBERS).any(|kind| has(kind) && fails(answer, Change::Number(kind, 1.5)))
}

/// Whether a factor on what the unit names makes the law fail: a block, a tensor, or else one of the numbers
/// of an answer.
fn fails_by(
    tape: &Tape,
    answer: usize,
    name: &str,
    factor: f64,
    fails: &impl Fn(usize, Change) -> bool,
) -> bool {
    if [WEIGHTS, SCALE].contains(&name) {
        return fails(answer, Change::Gradient(factor));
    }
    if let Some(block) = tape.block(answer, name) {
        return fails(answer, Change::Block(block, factor));
    }
    if tape.has_parameter(name) {
        return fails(answer, Change::Tensor(name.to_owned(), factor));
    }
    (0..NUMBERS).any(|kind| tape.has_number(answer, kind) && fails(answer, Change::Number(kind, factor)))
}
