//! What a run is of: its subjects, the tests that its arguments select, and what their results may be.

use crate::inner::{Inner, package};
use lossproof::laws::LAWS;
use std::fs;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("two_subjects_of_one_name_are_refused", of_one_name),
    ("what_the_card_rules_out_is_ignored_even_when_asked_for", ruled_out),
    ("the_card_is_asked_for_what_is_selected_alone", selected),
    ("a_law_that_is_ignored_with_consent_may_run_alone", consent),
    ("nothing_passed_is_red_where_nothing_demands_more", nothing_passed),
    ("a_rerun_line_reproduces_the_failure_of_a_pin", rerun),
];

fn of_one_name() {
    Inner::of("a=honest,b=honest,a=honest").run(&[]).assert(2, &["two subjects are called `a`"]);
}

fn ruled_out() {
    let inner = || Inner::of("tiny=loads-nothing");
    let listed = inner().run(&["--list", "--ignored"]);
    let shown = listed.said.lines().find_map(|line| line.strip_suffix(": test")).unwrap();
    let name = shown.rsplit(' ').next().unwrap();
    assert!(shown.starts_with("[unsupported: "), "{shown}");
    // Both are what nextest and people ask for.
    for (asked, flag) in [(shown, "--ignored"), (name, "--include-ignored"), (name, "--ignored")] {
        let ended = inner().run(&[asked, "--exact", flag]);
        ended.assert(0, &["ignored (unsupported: ", "0 passed; 0 failed; 1 ignored"]);
    }
}

fn selected() {
    // Who hangs when it is made is not made where none of its tests is selected.
    let inner = Inner::of("tiny=honest,other=hang-in-make");
    inner.run(&["tiny::sum", "--exact"]).assert(0, &["1 law holds"]);
    // Nor is the card asked about laws that are not, or are only listed: each would take hours.
    let most = u32::MAX.to_string();
    for arguments in [&["no-such-test", "--cases", &most][..], &["--list", "--cases", &most]] {
        Inner::of("tiny=own-spec-only").run(arguments).assert(0, &[]);
    }
}

fn consent() {
    let folder = package("consent");
    let inner = || Inner::of("tiny=one-micro-batch").in_package(&folder);
    inner().with("LOSSPROOF_EXPECT", "write").run(&[]);
    inner().run(&[]).assert(0, &["certified: "]);
    let mut undecided = 0;
    for law in LAWS {
        let ended = inner().run(&[&format!("tiny::{}", law.id()), "--exact"]);
        ended.assert(0, &["0 failed"]);
        undecided += ended.lines("UNCHECKED");
    }
    assert!(undecided > 0, "every law was decided: this test needs another trainer");
}

fn nothing_passed() {
    // Without a file, whether a law was ruled out or had nothing to compare.
    let nothing = "nothing passed for tiny, so nothing is certified";
    let ended = Inner::of("tiny=honest").run(&["--cases", "0", "tiny::"]);
    assert_ne!(ended.code, Some(0), "{}", ended.said);
    ended.assert(101, &[nothing]);
    // With a file that demands nothing, in whole and in part.
    let folder = package("nothing-passed");
    fs::write(folder.join("lossproof.toml"), "[subject.tiny]\ndecides = []\n").unwrap();
    for arguments in [&["--cases", "0"][..], &["--cases", "0", "tiny::sum"]] {
        Inner::of("tiny=honest").in_package(&folder).run(arguments).assert(1, &["0 failed", nothing]);
    }
    // With a file that demands something, in whole: here of other cases, where it only warns.
    fs::write(folder.join("lossproof.toml"), "[subject.tiny]\ndecides = [\"sum\"]\n").unwrap();
    Inner::of("tiny=honest").in_package(&folder).run(&["--cases", "0"]).assert(1, &["0 failed", nothing]);
}

fn rerun() {
    let folder = package("rerun");
    fs::write(folder.join("lossproof.toml"), "[subject.\"karl's\"]\ndecides = [\"token-mean\"]\n").unwrap();
    let inner = || Inner::of("karl's=honest").in_package(&folder);
    let ended = inner().run(&["karl's::sum", "--exact"]);
    ended.assert(101, &["decides and is not pinned"]);
    let line = r"rerun: cargo test -p lossproof --test 'runner' -- 'karl'\''s::sum' --exact";
    assert!(ended.said.lines().any(|said| said == line), "{}", ended.said);
    // What a shell makes of it is what was run; on other cases a pin demands nothing.
    inner().run(&["karl's::sum", "--exact", "--seed", "0"]).assert(0, &["warning: sum: decides"]);
}
