//! What the README shows is what the command prints.
#![cfg(all(feature = "reference", feature = "torch"))]

use std::process::Command;

const README: &str = include_str!("../../../README.md");

/// The text block that follows a marker comment.
fn block(marker: &str) -> &'static str {
    let after = README.split_once(&format!("<!-- {marker}:")).expect("the marker").1;
    let fenced = after.split_once("```text\n").expect("a text block").1;
    fenced.split_once("```").expect("its end").0
}

fn lossproof(arguments: &[&str]) -> (String, Option<i32>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_lossproof")).args(arguments).output().expect("the command runs");
    (String::from_utf8(output.stdout).expect("UTF-8"), output.status.code())
}

/// Measured numbers differ from processor to processor, and with their width the spaces beside them: each run of digits and
/// what belongs to a number becomes `#`, each run of spaces one.
fn without_numbers(text: &str) -> Vec<String> {
    let normalise = |line: &str| {
        let words = line.split_whitespace().map(|word| {
            let measured = word.starts_with(|c: char| c.is_ascii_digit());
            if measured && word.parse::<f64>().is_ok() { "#" } else { word }
        });
        words.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(normalise).collect()
}

#[test]
fn the_explanation_is_printed_to_the_letter() {
    let (printed, code) = lossproof(&["explain", "--sequences", "8192", "--length", "64"]);
    assert_eq!(code, Some(0));
    let shown = block("explain").split_once('\n').expect("the command line").1;
    assert_eq!(printed, shown);
}

#[test]
fn the_verification_is_printed_but_for_its_numbers() {
    let (printed, code) = lossproof(&["verify"]);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(without_numbers(&printed), without_numbers(block("verify")));
}

#[test]
fn the_laws_are_printed_but_for_their_numbers() {
    let laws = ["token-mean", "naive-deviation", "packing", "weight-tying", "adam-scale"];
    let chosen = laws.iter().flat_map(|law| ["--law", law]);
    let arguments: Vec<_> = ["laws", "--subject", "reference"].into_iter().chain(chosen).collect();
    let (printed, code) = lossproof(&arguments);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(without_numbers(&printed), without_numbers(block("laws")));
}

#[test]
fn a_bug_is_named_but_for_the_time_it_took() {
    let (printed, code) = lossproof(&["faults", "--only", "counted-before-shift"]);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(without_numbers(&printed), without_numbers(block("faults")));
}
