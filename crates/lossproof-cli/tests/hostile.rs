//! No hostile trainer comes out green.
#![cfg(feature = "trainers")]

use serde_json::Value;
use std::{collections::BTreeSet, fs, process::Command};

fn lossproof(arguments: &[&str]) -> (String, Option<i32>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_lossproof")).args(arguments).output().expect("the command runs");
    (String::from_utf8(output.stdout).expect("UTF-8"), output.status.code())
}

#[test]
#[ignore = "thorough: four minutes, for when laws, the door or the floor under a green change"]
fn no_hostile_trainer_comes_out_green() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("hostile.json");
    let (printed, code) = lossproof(&["hostile", "--json", file.to_str().expect("a path")]);
    let report: Value = serde_json::from_slice(&fs::read(&file).expect("a report")).expect("JSON");
    let trials = report["hostile"].as_array().expect("the trials");
    let ids = |wanted: &dyn Fn(&Value) -> bool| -> BTreeSet<&str> {
        trials.iter().filter(|trial| wanted(trial)).filter_map(|trial| trial["id"].as_str()).collect()
    };
    let passed = ids(&|trial| ["green", "uncaught"].contains(&trial["came_out"].as_str().expect("an end")));
    assert!(passed.is_empty(), "{passed:?} came out green, or ended the judge:\n{printed}");
    let deviating = ids(&|trial| !trial["deviation"].is_null());
    assert!(deviating.is_empty(), "{deviating:?} are not what they must be:\n{printed}");
    assert_eq!(code, Some(0), "{printed}");
    assert!(trials.len() > 90, "{} hostile trainers", trials.len());
}

#[test]
fn one_hostile_trainer_is_shown_alone_and_one_that_there_is_not_is_refused() {
    let (printed, code) = lossproof(&["hostile", "--hostile", "nothing-at-all"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("red by the floor") && printed.contains("1 hostile trainers: 0 came out green"));
    let (printed, code) = lossproof(&["hostile", "--hostile", "fourfold"]);
    assert_eq!((printed.as_str(), code), ("", Some(2)));
}
