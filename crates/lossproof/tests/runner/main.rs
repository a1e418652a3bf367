//! How a run of `conformance!` ends, whatever its trainer does: this executable runs itself as a trainer's
//! own test.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "nothing is wrong with what this trainer computes")]
#[path = "../../../lossproof-laws/tests/steps/bigram.rs"]
mod bigram;
mod endings;
mod inner;
mod selection;
mod trainer;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(test) = inner::asked_for() {
        return test.main();
    }
    let mut trials = Vec::new();
    for (name, test) in endings::TESTS.iter().chain(selection::TESTS) {
        let test = *test;
        trials.push(Trial::test(*name, move || {
            test();
            Ok(())
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
