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

/// Whether some change of one answer, as large as the unit's control says, makes the law fail in this unit.
pub(crate) fn caught(law: &Law, name: &str, unit: Unit, taped: &Rc<Taped>, facts: &Facts) -> bool {
    let tape = &taped.tape;
    let fails_if = |changed: Changed, change: Change| {
        let mut playback = Playback::subject(tape, (changed, change));
        let tried = law.try_with(&mut playback, &taped.case, &facts.at(taped.turn));
        tried.comparisons.violates(name)
    };
    // What is judged by its mean is changed in every context.
    let contexts = law.contexts(&facts.at(taped.turn));
    let answers = if tape.len().is_multiple_of(contexts) { tape.len() / contexts } else { tape.len() };
    let fails = |answer: usize, change: Change| match answers {
        all if all == tape.len() => fails_if(Changed::One(answer), change),
        _ => fails_if(Changed::InEachContext(answer, answers), change),
    };
    // What is judged mostly comes after what it is judged by.
    for answer in (0..answers).rev() {
        let found = match unit.control {
            Control::Factor => fails_by(tape, answer, name, 1.0 + CONTROL * unit.power, &fails),
            Control::Zero => fails_by(tape, answer, name, 0.0, &fails),
            Control::Any => {
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
    let everywhere = |_: usize, change: Change| fails_if(Changed::All, change);
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
