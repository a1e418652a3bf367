//! docs/bugs.md says what the command finds, and trainers without a fault raise no alarm.
#![cfg(feature = "trainers")]

use std::{fs, process::Command};

const BUGS: &str = include_str!("../../../docs/bugs.md");

fn lossproof(arguments: &[&str]) -> (String, Option<i32>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_lossproof")).args(arguments).output().expect("the command runs");
    (String::from_utf8(output.stdout).expect("UTF-8"), output.status.code())
}

/// What stands between two marks.
fn region<'a>(text: &'a str, name: &str) -> &'a str {
    let after = text.split_once(&format!("<!-- {name} -->\n")).expect("the mark").1;
    after.split_once(&format!("<!-- /{name} -->")).expect("its end").0
}

/// Every fault is killed, nine of ten are named first and all within the first three: the command ends with 0
/// only then.
#[test]
#[ignore = "thorough: four minutes; tests/tests/faults.rs holds each fault to the laws of its clauses"]
fn the_catalogue_is_what_the_command_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("bugs.md");
    fs::write(&copy, BUGS).expect("a copy");
    let path = copy.to_str().expect("a path");
    let (printed, code) = lossproof(&["faults", "--full", "--write", path]);
    assert_eq!(code, Some(0), "{printed}");
    let written = fs::read_to_string(&copy).expect("the copy");
    assert_eq!(
        region(&written, "faults"),
        region(BUGS, "faults"),
        "run `cargo run -- faults --full --write docs/bugs.md`"
    );
}

/// Every bug of ranks is killed and named, and the page says by what.
#[test]
fn the_bugs_of_ranks_are_what_the_command_says() {
    const RANKS: &str = include_str!("../../../docs/ranks.md");
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("ranks.md");
    fs::write(&copy, RANKS).expect("a copy");
    let (printed, code) = lossproof(&["faults", "--ranks", "--write", copy.to_str().expect("a path")]);
    assert_eq!(code, Some(0), "{printed}");
    let written = fs::read_to_string(&copy).expect("the copy");
    assert_eq!(
        region(&written, "ranks"),
        region(RANKS, "ranks"),
        "run `cargo run -- faults --ranks --write docs/ranks.md`"
    );
}

/// The same trainers go through every profile in `tests/tests/profiles.rs`, which is not left out.
#[test]
#[ignore = "thorough: two minutes; tests/tests/profiles.rs takes the same trainers through every profile"]
fn two_hundred_batches_raise_no_alarm() {
    let (printed, code) = lossproof(&["faults", "--alarms", "200", "--seed", "9"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("0 false alarms on 10 trainers without a fault"), "{printed}");
}

#[test]
fn one_fault_is_told_with_its_evidence_and_written_as_json() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("faults.json");
    let path = file.to_str().expect("a path");
    let (printed, code) = lossproof(&["faults", "--fault", "rank-local-token-mean", "--json", path]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("looks like rank-local-token-mean"), "{printed}");
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(&file).expect("a report")).expect("JSON");
    let row = &report["faults"][0];
    assert_eq!(row["candidates"][0]["id"], "rank-local-token-mean");
    assert_eq!((&row["killed"], &row["place"]), (&true.into(), &0.into()));
}

/// Nothing is printed: the report could not be kept, and minutes of work would be lost.
#[test]
fn a_report_that_cannot_be_written_fails_before_the_work() {
    let directory = tempfile::tempdir().expect("a directory");
    let inside_nothing = directory.path().join("missing").join("faults.json");
    for path in [inside_nothing.as_path(), directory.path()] {
        let path = path.to_str().expect("a path");
        for selected in [&["--fault", "shift-twice"][..], &["--alarms", "1"], &[]] {
            let (printed, code) = lossproof(&[&["faults", "--json", path], selected].concat());
            assert_eq!((printed.as_str(), code), ("", Some(2)), "{path} {selected:?}");
        }
    }
    assert_eq!(fs::read_dir(directory.path()).expect("the directory").count(), 0, "nothing is left behind");
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_written() {
    let (_, code) = lossproof(&["faults", "--fault", "no-such-fault"]);
    assert_eq!(code, Some(2));
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("bugs.md");
    let path = missing.to_str().expect("a path");
    let (printed, code) = lossproof(&["faults", "--write", path]);
    assert_eq!((printed.as_str(), code), ("", Some(2)), "no file");
    fs::write(&missing, "no marks\n").expect("a file");
    let (printed, code) = lossproof(&["faults", "--write", path]);
    assert_eq!((printed.as_str(), code), ("", Some(2)), "no marks");
    assert_eq!(fs::read_to_string(&missing).expect("the file"), "no marks\n");
}
