//! Trainers in processes of their own: what is said of them is what is said of the same trainer in this one.
#![cfg(feature = "trainers")]

use serde_json::Value;
use std::{fs, path::Path, process::Command};

/// The command, which serves its own trainers as an adapter.
const LOSSPROOF: &str = env!("CARGO_BIN_EXE_lossproof");

fn lossproof(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(LOSSPROOF).args(arguments).output().expect("the command runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (String::from_utf8(output.stdout).expect("UTF-8") + &error, output.status.code())
}

/// What was found of each law: everything but the time it took.
fn laws(arguments: &[&str], file: &Path) -> Value {
    let (printed, code) = lossproof(&[arguments, &["--json", file.to_str().expect("a path")]].concat());
    assert!(code == Some(0) || code == Some(1), "{printed}");
    let report: Value = serde_json::from_slice(&fs::read(file).expect("a report")).expect("JSON");
    report["subjects"][0]["laws"].clone()
}

#[test]
fn behind_the_door_the_laws_say_what_they_say_in_front_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("laws.json");
    let chosen = [
        "token-mean",
        "ratios",
        "token-loss",
        "linearity",
        "adam",
        "clipping",
        "reported-loss",
        "empty-groups",
        "validation-loss",
        "soft-targets",
        "masked-tokens",
        "prefix-source",
    ];
    let mut asked = vec!["laws", "--cases", "6"];
    asked.extend(chosen.iter().flat_map(|law| ["--law", law]));
    let here = laws(&[&asked[..], &["--subject", "reference"]].concat(), &file);
    let adapter = format!("'{LOSSPROOF}' serve");
    let record = folder.path().join("answers");
    let record = record.to_str().expect("a path");
    let behind = laws(&[&asked[..], &["--adapter", &adapter, "--record", record]].concat(), &file);
    assert_eq!(here, behind);
    assert_eq!(here.as_array().map(Vec::len), Some(chosen.len()), "{here}");
    // Without the trainer, all of them and one.
    assert_eq!(laws(&[&asked[..], &["--replay", record]].concat(), &file), behind);
    let one = laws(&["laws", "--cases", "6", "--law", "token-mean", "--replay", record], &file);
    assert_eq!(one[0], behind[0]);
}

#[test]
fn the_loop_behind_the_door_keeps_the_laws_that_it_keeps_in_front_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("laws.json");
    let asked = ["laws", "--cases", "2", "--law", "resume", "--law", "training-clipping"];
    let here = laws(&[&asked[..], &["--training", "--subject", "reference"]].concat(), &file);
    let adapter = format!("'{LOSSPROOF}' serve --training");
    assert_eq!(laws(&[&asked[..], &["--adapter", &adapter]].concat(), &file), here);
    assert_eq!(here[0]["verdict"], "pass", "{here}");
}

#[test]
fn a_bug_behind_the_door_is_seen_and_named() {
    let adapter = format!("'{LOSSPROOF}' serve --fault counted-before-shift");
    let (printed, code) = lossproof(&["diagnose", "--adapter", &adapter]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("looks like counted-before-shift: "), "{printed}");
    let (printed, code) = lossproof(&["tomography", "--adapter", &adapter]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("tokens counted before the shift"), "{printed}");
    assert!(printed.contains("looks like counted-before-shift\n"), "{printed}");
    let (printed, code) = lossproof(&["smoke", "--adapter", &adapter]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("FAIL") && printed.contains("can: parameter-loading"), "{printed}");
}

/// Nobody says what the gradients of a stranger's blocks should be, but its loss says how it changes along them.
#[test]
fn a_wrong_backward_pass_behind_the_door_is_no_green() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("diagnosis.jsonl");
    let diagnose = |adapter: &str| {
        let lines = file.to_str().expect("a path");
        let (printed, code) = lossproof(&["diagnose", "--adapter", adapter, "--json-lines", lines]);
        (printed, code, fs::read_to_string(&file).expect("a report"))
    };
    let (printed, code, report) = diagnose(&format!("'{LOSSPROOF}' serve"));
    assert_eq!(code, Some(0), "{printed}");
    let looked_at = "for the backward pass: on 4 batches the reported loss changes as the gradients of";
    assert!(printed.contains(looked_at), "{printed}");
    assert!(report.contains("loss-slope") && report.contains("\"parameters\":16.0"), "{report}");
    let (printed, code, report) = diagnose(&format!("'{LOSSPROOF}' serve --fault gelu-backward-second-term"));
    assert_eq!(code, Some(1), "{printed}");
    for line in
        ["but the reported loss does not change as the gradient says:\nloss-slope FAIL", "seen: slope"]
    {
        assert!(printed.contains(line), "{line:?} is not in {printed}");
    }
    assert!(report.contains("loss-slope") && report.contains("a case breaks it"), "{report}");
}

#[test]
fn an_honest_trainer_behind_the_door_is_verified_and_smoked() {
    let adapter = format!("'{LOSSPROOF}' serve");
    let (printed, code) = lossproof(&["smoke", "--adapter", &adapter, "--seconds", "2"]);
    assert_eq!(code, Some(0), "{printed}");
    let (printed, code) = lossproof(&["verify", "--config", "gpt2-pico", "--adapter", &adapter]);
    assert_eq!(code, Some(0), "{printed}");
    let (printed, code) = lossproof(&["verify", "--config", "gpt2-small", "--adapter", &adapter]);
    assert_eq!(code, Some(2), "{printed}");
}

#[test]
fn what_is_no_adapter_is_refused_with_a_remedy() {
    for (arguments, said) in [
        (&["smoke"][..], "no trainer is named"),
        (&["smoke", "--adapter", "true"], "process ended (exit status: 0)"),
        (&["laws", "--adapter", "no-such-program"], "could not be started"),
        (&["laws", "--adapter", "true", "--subject", "reference"], "cannot be used with"),
        (&["laws", "--record", "answers"], "--adapter"),
        (&["diagnose", "--replay", "/dev/null"], "is no recording"),
    ] {
        let (printed, code) = lossproof(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {printed}");
        assert!(printed.contains(said), "{arguments:?}: {printed}");
    }
}

#[test]
fn the_schemas_on_disk_are_those_of_the_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let (printed, code) = lossproof(&["schemas", "--out", folder.path().to_str().expect("a path")]);
    assert_eq!(code, Some(0), "{printed}");
    for name in ["question.json", "answer.json"] {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/schemas").join(name);
        let read = |path: &Path| fs::read_to_string(path).expect("a file");
        let same = read(&committed) == read(&folder.path().join(name));
        assert!(same, "`lossproof schemas --out fixtures/schemas` writes {name} anew");
    }
}
