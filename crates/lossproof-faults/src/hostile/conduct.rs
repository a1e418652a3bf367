//! Subjects that do not answer: they panic in one of their methods, or never come back from it.

use super::{
    HeldTo::Verification,
    Hostile,
    Outcome::{Errored, Red},
    hooked, hostile,
};
use crate::kit::{Hooks, wrap};
use std::{cell::Cell, panic::panic_any, thread, time::Duration};

const HONEST: Hooks<()> = Hooks::IDENTITY;

/// How long a subject sleeps that is to seem dead: longer than anybody waits for it.
const LONG: Duration = Duration::from_hours(1);

pub(super) const SUBJECTS: &[Hostile] = &[
    hostile("panics-in-accumulate", "`accumulate` panics", Red, |honest| {
        hooked(honest, Hooks { accumulate: |(), _, _, _| panic!("in accumulate"), ..HONEST })
    })
    .saying("panicked: in accumulate"),
    hostile("panics-in-evaluate", "`evaluate` panics", Red, |honest| {
        hooked(honest, Hooks { evaluate: |(), _, _| panic!("in evaluate"), ..HONEST })
    })
    .saying("panicked: in evaluate"),
    hostile("panics-in-configure", "`configure` panics", Red, |honest| {
        hooked(honest, Hooks { configure: |(), _, _| panic!("in configure"), ..HONEST })
    })
    .saying("panicked: in configure"),
    hostile("panics-in-info", "`info` panics, but for the first time that it is asked", Red, |honest| {
        let hooks = Hooks {
            info: |asked: &Cell<bool>, info| {
                assert!(!asked.replace(true), "in info");
                info
            },
            ..Hooks::IDENTITY
        };
        wrap(honest, Cell::new(false), hooks)
    })
    .saying("panicked: in info"),
    hostile("panics-in-parameters", "`parameters` panics", Red, |honest| {
        hooked(honest, Hooks { parameters: |(), _| panic!("in parameters"), ..HONEST })
    })
    .saying("panicked: in parameters"),
    hostile("panics-in-a-capability", "asked for a capability, it panics", Red, |honest| {
        hooked(honest, Hooks { offers: |(), _, _| panic!("in a capability"), ..HONEST })
    })
    .saying("panicked: in a capability"),
    hostile("panics-in-reset", "`reset` panics", Red, |honest| {
        hooked(honest, Hooks { reset: |(), _| panic!("in reset"), ..HONEST })
    })
    .saying("panicked: in reset"),
    hostile("panics-in-load", "`load` panics", Red, |honest| {
        hooked(honest, Hooks { load: |(), _, _| panic!("in load"), ..HONEST })
    })
    .saying("panicked: in load"),
    hostile("panics-in-set", "`set` panics", Red, |honest| {
        hooked(honest, Hooks { set: |(), _, _, _| panic!("in set"), ..HONEST })
    })
    .saying("panicked: in set"),
    hostile("panics-in-backward", "the backward pass from given weights panics", Red, |honest| {
        hooked(honest, Hooks { backward: |(), _, _, _, _| panic!("in backward"), ..HONEST })
    })
    .saying("panicked: in backward"),
    hostile("panics-in-start", "`start` panics", Red, |honest| {
        hooked(honest, Hooks { start: |(), _, _| panic!("in start"), ..HONEST })
    })
    .saying("panicked: in start"),
    hostile("panics-in-step", "`step` panics", Red, |honest| {
        hooked(honest, Hooks { step: |(), _, _| panic!("in step"), ..HONEST })
    })
    .saying("panicked: in step"),
    hostile("panics-in-read", "`read` panics", Red, |honest| {
        hooked(honest, Hooks { read: |(), _, _| panic!("in read"), ..HONEST })
    })
    .saying("panicked: in read"),
    hostile("panics-in-validate", "`validate` panics", Red, |honest| {
        hooked(honest, Hooks { validate: |(), _, _| panic!("in validate"), ..HONEST })
    })
    .saying("panicked: in validate"),
    hostile("panics-in-learn", "`learn` panics", Red, |honest| {
        hooked(honest, Hooks { learn: |(), _, _, _| panic!("in learn"), ..HONEST })
    })
    .saying("panicked: in learn"),
    hostile("panics-without-a-word", "`accumulate` panics with something that is no text", Red, |honest| {
        hooked(honest, Hooks { accumulate: |(), _, _, _| panic_any(42_u8), ..HONEST })
    }),
    hostile("hangs-in-accumulate", "`accumulate` sleeps for an hour", Errored, |honest| {
        let hooks = Hooks {
            accumulate: |(), inner, batch, handed| {
                thread::sleep(LONG);
                inner.accumulate(batch, handed)
            },
            ..HONEST
        };
        hooked(honest, hooks)
    })
    .saying("did not return"),
    hostile("hangs-in-validate", "`validate` sleeps for an hour, all else is honest", Errored, |honest| {
        let hooks = Hooks {
            validate: |(), inner, batches| {
                thread::sleep(LONG);
                (HONEST.validate)(&mut (), inner, batches)
            },
            ..HONEST
        };
        hooked(honest, hooks)
    })
    .saying("did not return"),
    hostile(
        "panics-beside-another",
        "`accumulate` panics, beside an independent implementation",
        Red,
        |honest| hooked(honest, Hooks { accumulate: |(), _, _, _| panic!("in accumulate"), ..HONEST }),
    )
    .held_to(Verification)
    .saying("panicked: in accumulate"),
];
