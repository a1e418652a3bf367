//! What a law costs: on one case it asks a trainer for the same loss and gradient once, but for the laws that are
//! about a second answer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_cases::strategies::Size;
use lossproof_faults::kit::{HandedOver, Hooks, wrap};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS};
use lossproof_spec::{Dtype, GlobalBatch, LossSpec};
use lossproof_subject::Subject;
use lossproof_tests::ours;
use std::sync::{Arc, Mutex};

/// What was asked since the parameters were last set.
#[derive(Default)]
struct Asked {
    spec: Option<LossSpec>,
    since: Vec<(Option<LossSpec>, GlobalBatch)>,
    calls: usize,
    again: usize,
}

type Shared = Arc<Mutex<Asked>>;

/// Other parameters have other answers.
fn forget(asked: &Shared) {
    asked.lock().unwrap().since.clear();
}

fn counting(asked: &Shared) -> Box<dyn Subject> {
    let hooks = Hooks {
        reset: |asked: &mut Shared, inner| {
            forget(asked);
            inner.reset()
        },
        configure: |asked, inner, spec| {
            asked.lock().unwrap().spec = Some(*spec);
            inner.configure(spec)
        },
        load: |asked, inner, parameters| {
            forget(asked);
            inner.parameter_loading().unwrap().load(parameters)
        },
        set: |asked, inner, name, values| {
            forget(asked);
            inner.parameter_loading().unwrap().set(name, values)
        },
        accumulate: |asked, inner, batch, handed: &mut HandedOver| {
            let mut held = asked.lock().unwrap();
            let question = (held.spec, batch.clone());
            held.calls += 1;
            if held.since.contains(&question) {
                held.again += 1;
            } else {
                held.since.push(question);
            }
            drop(held);
            inner.accumulate(batch, handed)
        },
        step: |asked, inner, batch| {
            forget(asked);
            inner.optimizer_steps().unwrap().step(batch)
        },
        ..Hooks::IDENTITY
    };
    wrap(ours(Config::Pico, Dtype::F64), asked.clone(), hooks)
}

/// Between two of their equal calls stands another, which must leave nothing behind.
const AGAIN: [&str; 2] = ["zero-grad", "validation-trace"];

#[test]
fn a_law_takes_its_bases_once_per_case() {
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=3, positions: 1..=12 };
    let cases = 12;
    let campaign = Campaign { cases, size, shrink: false, control: false, ..Campaign::default() };
    let (mut calls, mut again) = (0, 0);
    for law in LAWS {
        let asked = Shared::default();
        campaign.run(law, &mut *counting(&asked)).unwrap();
        let asked = asked.lock().unwrap();
        // One call is made twice to measure the noise. Some laws ask for what they looked at most again, and what
        // some make of a batch can be the batch itself.
        let once_a_case = 1 + cases as usize;
        assert!(asked.again <= once_a_case || AGAIN.contains(&law.id()), "{}: {}", law.id(), asked.again);
        calls += asked.calls;
        again += asked.again;
    }
    assert!(20 * again < calls, "{again} of {calls}");
}
