//! `lossproof verify` from the outside: exit codes, the report as JSON, determinism.
#![cfg(feature = "trainers")]

use std::process::{Command, Output};

fn lossproof(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lossproof")).args(arguments).output().expect("the command runs")
}

fn refused(arguments: &[&str], because: &str) {
    refused_with(&[], arguments, because);
}

/// The same with variables of the environment.
fn refused_with(variables: &[(&str, &str)], arguments: &[&str], because: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lossproof"));
    let output = command.args(arguments).envs(variables.iter().copied()).output().expect("the command runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(because), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn unusable_arguments_are_named_and_exit_with_2() {
    refused(&["verify", "--config", "gpt2-tiny"], "choose gpt2-pico");
    refused(&["verify", "--device", "tpu"], "write cpu, cuda or cuda:INDEX");
    refused(&["verify", "--dtype", "f16"], "f32, f64");
    refused(&["verify", "--length", "65"], "a sequence cannot have 65 tokens");
    refused(&["verify", "--length", "1"], "with one there is nothing to predict");
    refused(&["verify", "--sequences", "0"], "a batch needs a sequence");
    refused(&["verify", "--sequences", "99999999"], "GiB of memory");
    refused(&["verify", "--sequences", "18446744073709551615"], "GiB of memory");
    refused(&["verify", "--text", "no/such/file"], "no/such/file");
    refused(&["verify", "--device", "cuda"], "CUDA");
}

#[test]
fn no_place_for_the_parameters_is_said_before_anything_is_computed() {
    for because in ["/none", "set TMPDIR"] {
        refused_with(&[("TMPDIR", "/none")], &["verify", "--dtype", "f32"], because);
    }
}

#[test]
fn a_time_limit_that_is_none_is_named_before_anything_is_computed() {
    let because = "LOSSPROOF_TIMEOUT takes a number of seconds";
    refused_with(&[("LOSSPROOF_TIMEOUT", "soon")], &["laws", "--cases", "1"], because);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let directory = tempfile::tempdir().unwrap();
    let report = |name: &str, seed: &str| {
        let path = directory.path().join(name);
        let path = path.to_str().unwrap();
        let arguments = ["verify", "--dtype", "f32", "--sequences", "5", "--seed", seed, "--json", path];
        let output = lossproof(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        std::fs::read_to_string(path).unwrap()
    };
    let first = report("a.json", "1");
    assert_eq!(first, report("b.json", "1"));
    assert_ne!(first, report("c.json", "2"));
    let parsed: serde_json::Value = serde_json::from_str(&first).unwrap();
    let rows = parsed["rows"].as_array().unwrap();
    assert!(rows.len() > 50);
    assert!(rows.iter().all(|row| row["verdict"] == "pass" && row["control_caught"] == true));
}

#[test]
fn one_sequence_and_every_coordinate_of_pico() {
    let output = lossproof(&["verify", "--config", "gpt2-pico", "--sequences", "1", "--length", "5"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("55 passed, 0 failed, 0 unchecked"), "{said}");
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_work() {
    let output =
        lossproof(&["verify", "--dtype", "f32", "--sequences", "2", "--json", "no/such/folder/report.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/folder/report.json"));
}
