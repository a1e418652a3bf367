//! The command as a process: exit codes and streams.

use std::process::{Command, Stdio};

fn lossproof(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lossproof"));
    command.args(arguments).stdin(Stdio::null());
    command
}

#[test]
fn an_answer_is_on_stdout_and_ends_with_zero() {
    let output = lossproof(&["explain", "--sequences", "8192", "--length", "64"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("516 096 losses"));
    assert!(output.stderr.is_empty());
}

#[test]
fn nonsense_ends_with_two_and_says_what_to_do_on_stderr() {
    for (arguments, remedy) in [
        (&["explain", "--lengths", "3,4", "--length", "3"][..], "leave out"),
        (&["explain", "--lengths", "3,4", "--ranks", "3"], "lower --ranks"),
        (&["explain", "--lengths", "3,x"], "invalid value"),
        (&["explain"], "--sequences"),
        (&[], "explain"),
    ] {
        let output = lossproof(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(remedy), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_reader_that_leaves_early_changes_nothing() {
    for (arguments, code) in [
        (&["explain", "--sequences", "8192", "--length", "64"][..], 0),
        (&["explain", "--lengths", "3,4", "--ranks", "3"], 2),
        (&["--help"], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = lossproof(arguments);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        assert_eq!(command.status().unwrap().code(), Some(code), "{arguments:?}");
    }
}
