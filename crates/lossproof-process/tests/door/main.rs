//! Adapters of every kind behind the door: each ends in an answer or in an error that says what it did, within its
//! time, and leaves nothing running.

mod adapters;
mod trials;
mod unigram;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

/// In the environment: the adapter that this program is to be.
const ACT: &str = "LOSSPROOF_ACT";

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(ACT) {
        adapters::act(&name);
        return ExitCode::SUCCESS;
    }
    let trials = trials::all().into_iter().map(|(name, run)| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
