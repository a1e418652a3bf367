//! Every deliberate break turns a law red, and every law can fail: which of them each break turns red is a snapshot,
//! and none stays green under all.

use lossproof_cases::strategies::Size;
use lossproof_faults::{Fault, without_fault};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS, Law, Verdict};
use lossproof_spec::Dtype;
use lossproof_subject::Subject;
use lossproof_tests::{laws_of_a_step, ours};
use rayon::prelude::*;
use std::{collections::BTreeSet, fmt::Write};

/// Few and small cases: a fault that hides from this many random batches would hide from a trainer's own
/// tests too.
fn campaign() -> Campaign {
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=3, positions: 1..=12 };
    Campaign { cases: 12, size, shrink: false, examiner: None, ..Campaign::default() }
}

fn honest() -> Box<dyn Subject> {
    ours(Config::Pico, Dtype::F64)
}

fn verdict(law: &'static Law, subject: &mut dyn Subject) -> Verdict {
    campaign().run(law, subject).expect("no case files are read").verdict
}

/// The laws that a fault turns red.
struct Red {
    fault: &'static Fault,
    /// A comparison convicted it.
    failed: Vec<&'static str>,
    /// The trainer failed, or could not be held to the law: no kill by this law's own comparison.
    errored: Vec<&'static str>,
}

impl Red {
    fn under(fault: &'static Fault) -> Self {
        Self::of_laws(fault, LAWS.iter())
    }

    /// Of the laws of clauses that the fault declares to violate.
    fn as_far_as_declared(fault: &'static Fault) -> Self {
        let declared = |law: &&Law| law.clauses().any(|clause| fault.bug.clauses.contains(&clause.id));
        Self::of_laws(fault, LAWS.iter().filter(declared))
    }

    fn of_laws(fault: &'static Fault, laws: impl Iterator<Item = &'static Law>) -> Self {
        let mut subject = fault.inject(honest());
        let verdicts: Vec<_> = laws.map(|law| (law.id(), verdict(law, &mut *subject))).collect();
        let with = |wanted| verdicts.iter().filter(|(_, v)| *v == wanted).map(|(id, _)| *id).collect();
        Self { fault, failed: with(Verdict::Fail), errored: with(Verdict::Errored) }
    }

    /// Whether a law of a clause that the fault declares to violate fails.
    fn as_declared(&self) -> bool {
        let mut clauses = self.failed.iter().filter_map(|id| Law::named(id)).flat_map(Law::clauses);
        clauses.any(|clause| self.fault.bug.clauses.contains(&clause.id))
    }
}

#[test]
fn every_fault_breaks_a_law_of_a_clause_that_it_violates() {
    let faults: Vec<_> = Fault::all().collect();
    let red: Vec<_> = faults.into_par_iter().map(Red::as_far_as_declared).collect();
    let missed: Vec<_> = red.iter().filter(|red| !red.as_declared()).map(|red| red.fault.bug.id).collect();
    assert!(missed.is_empty(), "no law of a clause that they violate fails under {missed:?}");
}

#[test]
#[ignore = "thorough: three minutes, for when laws, cases or the catalogue change"]
fn which_laws_each_fault_turns_red() {
    let faults: Vec<_> = Fault::all().collect();
    let red: Vec<_> = faults.into_par_iter().map(Red::under).collect();

    let mut matrix = String::new();
    for Red { fault, failed, errored } in &red {
        let _ =
            writeln!(matrix, "{} ({}): {}", fault.bug.id, fault.bug.clauses.join(", "), failed.join(", "));
        if !errored.is_empty() {
            let _ = writeln!(matrix, "    errored: {}", errored.join(", "));
        }
    }
    let caught: BTreeSet<_> = red.iter().flat_map(|red| &red.failed).copied().collect();
    let green: Vec<_> = laws_of_a_step().map(Law::id).filter(|id| !caught.contains(id)).collect();
    let missed: Vec<_> = red.iter().filter(|red| !red.as_declared()).map(|red| red.fault.bug.id).collect();

    assert!(missed.is_empty(), "no law of a clause that they violate fails under {missed:?}:\n{matrix}");
    assert!(green.is_empty(), "these laws fail under no fault: {green:?}\n{matrix}");
    insta::assert_snapshot!(matrix);
}

/// A false alarm of the trainer that faults are injected into would be mistaken for a kill.
#[test]
fn without_a_fault_every_law_is_green() {
    let campaign = Campaign { cases: 64, ..campaign() };
    let wrong = |law: &'static Law| {
        let report = campaign.run(law, &mut *without_fault(honest())).expect("no case files are read");
        // Every law must pass: what too few cases could certify would be unchecked.
        (report.verdict != Verdict::Pass).then(|| report.to_string())
    };
    let of_a_step: Vec<_> = laws_of_a_step().collect();
    let wrong: Vec<_> = of_a_step.into_par_iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
