//! Every law can fail: which of them each deliberate break turns red is a snapshot, and none stays green under all.

use lossproof::{
    Dtype, Subject,
    laws::{Campaign, LAWS, Law, Verdict},
};
use lossproof_faults::{Fault, without_fault};
use lossproof_gpt2::Config;
use lossproof_tests::ours;
use rayon::prelude::*;
use std::{collections::BTreeSet, fmt::Write};

/// Few cases: a fault that hides from this many random batches would hide from a trainer's own tests too.
fn campaign() -> Campaign {
    Campaign { cases: 24, shrink: false, ..Campaign::default() }
}

fn honest() -> Box<dyn Subject> {
    ours(Config::Pico, Dtype::F64)
}

fn verdict(law: &'static Law, subject: &mut dyn Subject) -> Verdict {
    campaign().run(law, subject).expect("no case files are read").verdict
}

/// The laws that a fault turns red.
fn red(fault: &Fault) -> Vec<&'static Law> {
    let mut subject = fault.inject(honest());
    let broken = |law: &&'static Law| matches!(verdict(law, &mut *subject), Verdict::Fail | Verdict::Errored);
    LAWS.iter().filter(broken).collect()
}

#[test]
fn which_laws_each_fault_turns_red() {
    let faults: Vec<_> = Fault::all().collect();
    let red: Vec<_> = faults.par_iter().map(|fault| red(fault)).collect();

    let mut matrix = String::new();
    for (fault, red) in faults.iter().zip(&red) {
        let ids: Vec<_> = red.iter().map(|law| law.id()).collect();
        let _ = writeln!(matrix, "{} ({}): {}", fault.id, fault.clauses.join(", "), ids.join(", "));
    }
    let caught: BTreeSet<_> = red.iter().flatten().map(|law| law.id()).collect();
    let green: Vec<_> = LAWS.iter().map(Law::id).filter(|id| !caught.contains(id)).collect();
    let declared = |fault: &Fault, red: &[&'static Law]| {
        red.iter().flat_map(|law| law.clauses()).any(|clause| fault.clauses.contains(&clause.id))
    };
    let missed: Vec<_> =
        faults.iter().zip(&red).filter(|(fault, red)| !declared(fault, red)).map(|(f, _)| f.id).collect();

    assert!(missed.is_empty(), "no law of a clause that they violate turns red under {missed:?}:\n{matrix}");
    assert!(green.is_empty(), "these laws stay green under every fault: {green:?}\n{matrix}");
    assert!(faults.len() >= 15);
    insta::assert_snapshot!(matrix);
}

/// A false alarm of the trainer that faults are injected into would be mistaken for a kill.
#[test]
fn without_a_fault_every_law_is_green() {
    let red = |law: &&'static Law| !matches!(verdict(law, &mut *without_fault(honest())), Verdict::Pass);
    let red: Vec<_> = LAWS.par_iter().filter(|law| red(law)).map(Law::id).collect();
    // Every law must pass: what this many cases cannot certify would be unchecked.
    assert!(red.is_empty(), "{red:?}");
}
