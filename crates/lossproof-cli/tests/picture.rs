//! The picture in `docs/tomography.md` is what its command draws, and what the page says of it is what the
//! command prints.

use std::{path::Path, process::Command};

const PAGE: &str = include_str!("../../../docs/tomography.md");

/// The only command of the page that draws.
fn command() -> Vec<&'static str> {
    let mut lines = PAGE.lines().filter_map(|line| line.trim().strip_prefix("lossproof "));
    let command = lines.find(|line| line.contains("--svg")).expect("a command that draws");
    command.split_whitespace().collect()
}

#[test]
fn the_picture_is_drawn_to_the_byte_and_its_numbers_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    let drawn = directory.path().join("drawn.svg");
    let mut arguments = command();
    let place = arguments.iter().position(|argument| *argument == "--svg").unwrap() + 1;
    let file = arguments[place];
    arguments[place] = drawn.to_str().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lossproof")).args(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    assert!(
        PAGE.contains(&format!("]({})", file.strip_prefix("docs/").unwrap())),
        "the page does not show {file}"
    );
    let committed = std::fs::read(Path::new("../..").join(file)).unwrap();
    let same = committed == std::fs::read(&drawn).unwrap();
    assert!(same, "{file} is not what is drawn: run lossproof {}", command().join(" "));

    let printed = String::from_utf8(output.stdout).unwrap();
    let block = PAGE.split_once("<!-- explain:").expect("the marker").1;
    let block = block.split_once("```text\n").unwrap().1.split_once("```").unwrap().0;
    for line in block.lines() {
        assert!(printed.lines().any(|printed| printed.trim_end() == line), "not printed: {line}");
    }
}

#[test]
fn a_picture_that_cannot_be_made_is_refused_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weights.svg");
    let svg = ["--svg", file.to_str().unwrap()];
    for (arguments, remedy) in [
        (&["--sequences", "8192", "--length", "64"][..], "1 to 200"),
        (&["--lengths", "3,4", "--draw", "loss"], "possible values"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lossproof"))
            .arg("explain")
            .args(arguments)
            .args(svg)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(remedy), "{stderr}");
        assert!(!file.exists());
    }
    let lost = ["explain", "--lengths", "3,4", "--svg", "/there/is/no/such/folder/weights.svg"];
    let output = Command::new(env!("CARGO_BIN_EXE_lossproof")).args(lost).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("could not write /there/is/no/such/folder/weights.svg")
    );
}
