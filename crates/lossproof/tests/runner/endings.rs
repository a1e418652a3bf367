//! No trainer ends a run in green, and none ends it or holds it up without being named.

use crate::inner::{Inner, package};
use lossproof::laws::LAWS;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("an_honest_trainer_is_green_and_listed", honest),
    ("a_trainer_that_ends_the_process_is_red_wherever_it_does", ended_from_inside),
    ("a_trainer_that_panics_outside_its_methods_fails_its_tests_by_name", panics),
    ("a_trainer_that_hangs_is_waited_for_once", hangs),
    ("a_failure_reads_from_what_was_claimed_to_how_to_rerun", failure),
    ("a_time_limit_that_is_none_is_named_and_the_longest_is_one", time_limits),
];

fn honest() {
    Inner::of("tiny=honest").run(&["tiny::sum", "--exact"]).assert(0, &["1 passed", "1 law holds"]);
    let listed = Inner::of("tiny=honest").run(&["--list"]);
    listed.assert(0, &["tiny::sum: test", "tiny::floor: test"]);
    Inner::of("tiny=honest").run(&["--help"]).assert(0, &["USAGE"]);
    Inner::of("tiny=honest").run(&["--no-such-argument"]).assert(2, &["--no-such-argument"]);
}

fn ended_from_inside() {
    for habit in ["exit-in-make", "exit-in-accumulate", "exit-in-drop"] {
        let ended = Inner::of(&format!("tiny={habit}")).run(&["tiny::sum"]);
        ended.assert(1, &["ended from inside before the run was over", ": 0)"]);
    }
    Inner::of("tiny=exit-in-make").run(&["--list"]).assert(1, &["ended from inside"]);
    #[cfg(unix)]
    Inner::of("tiny=abort-in-accumulate").run(&["tiny::sum"]).assert(1, &["SIGABRT"]);
}

fn panics() {
    for (habit, what) in [("make", "`the constructor` panicked: boom"), ("drop", "`drop` panicked: boom")] {
        let ended = Inner::of(&format!("tiny=panic-in-{habit}")).run(&[]);
        ended.assert(101, &["test tiny::sum", "test tiny::floor"]);
        let tests = LAWS.len() + 1;
        assert!(ended.lines(what) >= tests, "{}", ended.said);
        ended.assert(101, &["0 decided", &format!("{} errored", LAWS.len())]);
    }
}

fn hangs() {
    for (habit, call) in [("make", "`the constructor`"), ("accumulate", "`accumulate`"), ("drop", "`drop`")] {
        let inner = Inner::of(&format!("tiny=hang-in-{habit},other=honest")).with("LOSSPROOF_TIMEOUT", "1");
        let ended = inner.run(&["--test-threads", "2"]);
        ended.assert(101, &["tiny: 0 decided", "not tried, because tiny hung in "]);
        // Two tests at the same time; all others say at once that they were not tried, and count as errored.
        let untried = ended.lines("not tried, because tiny hung in ");
        let named = ended.lines(&format!("{call} did not return within 1 s"));
        assert!(untried > LAWS.len() / 2, "{}", ended.said);
        assert!((untried..=untried + 2).contains(&named), "{named}, {untried}: {}", ended.said);
        // The other trainer is none the worse for it.
        assert_eq!(ended.lines(" 0 errored"), 1, "{}", ended.said);
        assert_eq!(ended.lines("other: 0 decided"), 0, "{}", ended.said);
    }
}

fn failure() {
    let folder = package("failure");
    let inner = || Inner::of("tiny=logs-last").in_package(&folder);
    let ended = inner().run(&["tiny::reported-loss", "--exact"]);
    ended.assert(101, &["claimed: every loss that is asked for\n  4.7 ", "micro-batch 1, row 0: tokens "]);
    let headings =
        ["claimed: ", "seen: ", "smallest batch: ", "looks like: ", "change: ", "kept: cases/", "rerun: "];
    let begins = |line: &str| headings.into_iter().find(|heading| line.starts_with(heading));
    assert_eq!(ended.said.lines().filter_map(begins).collect::<Vec<_>>(), headings, "{}", ended.said);
    // What stands behind `rerun` does so: the kept case is tried first, and nothing is shrunk again.
    inner().run(&["tiny::reported-loss", "--exact"]).assert(101, &["reported-loss FAIL\n", "kept: cases/"]);
}

fn time_limits() {
    let with = |value: &str| Inner::of("tiny=honest").with("LOSSPROOF_TIMEOUT", value).run(&["tiny::sum"]);
    with("soon").assert(2, &["LOSSPROOF_TIMEOUT takes a number of seconds above zero, not `soon`"]);
    with(&u64::MAX.to_string()).assert(0, &["1 law holds"]);
    // Who meant to draft is told that nothing was.
    let draft = Inner::of("tiny=honest").with("LOSSPROOF_EXPECT", "wrte").run(&["tiny::sum"]);
    draft.assert(2, &["LOSSPROOF_EXPECT is `write` or not set, not `wrte`"]);
}
