//! `lossproof train`: killed at any moment and resumed it ends as if it had never stopped, and what it cannot do
//! it says before it begins.
#![cfg(feature = "trainers")]

use lossproof_loop::checkpoint::{Checkpoint, newest};
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

/// Small and fast, and it writes a checkpoint after every update.
const RUN: [&str; 17] = [
    "train",
    "--trainer",
    "libtorch",
    "--config",
    "gpt2-pico",
    "--text-bytes",
    "2500",
    "--batch",
    "3",
    "--epochs",
    "6",
    "--dropout",
    "0.1",
    "--warm-up",
    "3",
    "--clip",
    "0.5",
];

fn lossproof(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lossproof"));
    command.args(arguments);
    command
}

fn output(arguments: &[&str]) -> Output {
    lossproof(arguments).output().expect("the command runs")
}

/// The arguments of a run that keeps its checkpoints and its trace in a folder, resumed where there is one.
fn kept_in(folder: &Path) -> Vec<String> {
    let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let checkpoints = path("checkpoints");
    let mut arguments: Vec<String> = RUN.iter().map(|&argument| argument.to_owned()).collect();
    arguments.extend(["--checkpoint-every", "1", "--keep", "3", "--checkpoints"].map(str::to_owned));
    arguments.push(checkpoints.clone());
    arguments.extend(["--trace".to_owned(), path("run.jsonl")]);
    if Path::new(&checkpoints).is_dir() && newest(Path::new(&checkpoints)).expect("a folder").is_some() {
        arguments.extend(["--resume".to_owned(), checkpoints]);
    }
    arguments
}

fn run_in(folder: &Path) -> Command {
    let arguments = kept_in(folder);
    lossproof(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A message without the breaks and marks of a terminal's lines.
fn letters(text: &str) -> String {
    text.replace(['\n', ' ', '│'], "")
}

/// The newest checkpoint of a folder.
fn end_of(folder: &Path) -> Checkpoint {
    let place = newest(&folder.join("checkpoints")).expect("a folder").expect("a checkpoint");
    Checkpoint::read(&place).expect("whole")
}

/// 200 times, at moments spread over what a run needs between its start and some updates.
#[test]
fn killed_at_any_moment_the_newest_checkpoint_loads_and_the_run_ends_the_same() {
    let (undisturbed, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(run_in(undisturbed.path()).output().unwrap().status.success());
    let expected = fs::read(undisturbed.path().join("run.jsonl")).unwrap();

    let mut runs = 0;
    for kill in 0..200_u64 {
        let mut child = run_in(killed.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Up to 60 ms, without a pattern.
        sleep(Duration::from_micros(kill * 7_919 % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let checkpoints = killed.path().join("checkpoints");
        if checkpoints.is_dir()
            && newest(&checkpoints).unwrap().is_some()
            && end_of(killed.path()).progress.finished
        {
            assert!(fs::read(killed.path().join("run.jsonl")).unwrap() == expected);
            fs::remove_dir_all(checkpoints).unwrap();
            runs += 1;
        }
    }
    let last = run_in(killed.path()).output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    assert!(fs::read(killed.path().join("run.jsonl")).unwrap() == expected, "after {runs} whole runs");
    assert!(end_of(killed.path()) == end_of(undisturbed.path()));
}

#[test]
fn a_finished_run_that_is_resumed_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = run_in(folder.path()).output().unwrap();
    assert!(first.status.success());
    let (trace, end) = (fs::read(folder.path().join("run.jsonl")).unwrap(), end_of(folder.path()));
    assert!(run_in(folder.path()).output().unwrap().status.success());
    assert!(fs::read(folder.path().join("run.jsonl")).unwrap() == trace);
    assert!(end_of(folder.path()) == end);
}

#[test]
fn another_run_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run_in(folder.path()).output().unwrap().status.success());
    for (other, said) in [
        (["--batch", "6"], "batch was 3, now 6"),
        (["--accumulate", "2"], "accumulate was 4, now 2"),
        (["--ranks", "2"], "ranks was 1, now 2"),
        (["--dtype", "f32"], "dtype was f64, now f32"),
        (["--config", "gpt2-nano"], "config was gpt2-pico, now gpt2-nano"),
        (["--text-bytes", "2000"], "text was"),
    ] {
        let mut arguments = kept_in(folder.path());
        arguments.retain(|argument| argument != "--trace" && !argument.ends_with("run.jsonl"));
        for pair in 0..arguments.len() {
            if arguments[pair] == other[0] {
                arguments.drain(pair..pair + 2);
                break;
            }
        }
        arguments.extend(other.map(str::to_owned));
        let refused = output(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let text = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{text}");
        assert!(letters(&text).contains(&letters(said)), "{said}: {text}");
    }
}

/// Every argument that makes no run, with the exit code of a usage error and a word on what to give.
#[test]
fn what_makes_no_run_is_said() {
    for (arguments, said) in [
        (vec!["train", "--batch", "0"], "give at least 1"),
        (vec!["train", "--block", "65"], "gpt2-nano has 64"),
        (vec!["train", "--dropout", "1"], "give a number of [0, 1)"),
        (vec!["train", "--text-bytes", "10"], "leaves no block"),
        (vec!["train", "--text", "/nowhere/text"], "could not read the text"),
        (vec!["train", "--resume", "/nowhere/run"], "could not be read"),
        (vec!["train", "--recording", "/nowhere/recording"], "could not be read"),
        (vec!["train", "--batch", "9223372036854775808"], "a machine can hold"),
        (vec!["train", "--ranks", "1000000000000"], "a machine can hold"),
        (vec!["train", "--warm-up", "18446744073709551615"], "give fewer updates"),
        (vec!["train", "--learning-rate", "0", "--schedule", "polynomial"], "more than 1e-7"),
        (vec!["train", "--clip", "inf"], "a positive norm that is finite"),
        (vec!["train", "--weight-decay", "inf"], "not negative"),
        (vec!["train", "--checkpoints", "target", "--keep", "0"], "--keep"),
        (vec!["train", "--updates", "3", "--epochs", "2"], "cannot be used with"),
        (vec!["train", "--checkpoint-every", "3"], "--checkpoints"),
    ] {
        let refused = output(&arguments);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(letters(&text).contains(&letters(said)), "{arguments:?}: {text}");
    }
}

/// Files of somebody else are left alone: as a trace, and in the folder of checkpoints.
#[test]
fn no_file_of_another_run_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run_in(folder.path()).output().unwrap().status.success());
    let text = folder.path().join("text");
    fs::write(&text, "not a trace\n").unwrap();
    let checkpoints = folder.path().join("checkpoints");
    let [text_path, checkpoints_path] = [&text, &checkpoints].map(|path| path.to_str().unwrap());
    let before = end_of(folder.path());
    for (arguments, said) in [
        (vec!["--trace", text_path], "not the trace of this run"),
        (vec!["--resume", checkpoints_path, "--trace", text_path], "not the trace of this run"),
        (vec!["--checkpoints", checkpoints_path], "does not go on from"),
    ] {
        let refused = output(&[RUN.as_slice(), arguments.as_slice()].concat());
        let message = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{message}");
        assert!(letters(&message).contains(&letters(said)), "{said}: {message}");
    }
    assert_eq!(fs::read_to_string(&text).unwrap(), "not a trace\n");
    assert!(end_of(folder.path()) == before);
}

/// A run that diverges says so: what was skipped is missing at its end.
#[test]
fn missing_updates_are_told() {
    let diverged = output(&[
        "train",
        "--trainer",
        "libtorch",
        "--config",
        "gpt2-pico",
        "--text-bytes",
        "2500",
        "--learning-rate",
        "1e300",
        "--updates",
        "6",
    ]);
    let text = String::from_utf8_lossy(&diverged.stdout);
    assert_eq!(diverged.status.code(), Some(1), "{text}");
    assert!(text.contains("of 6 updates were made"), "{text}");
}

/// A folder that cannot be written to ends the run before it has trained for long, with a clear error.
#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_made_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let below = file.join("run");
    let refused = output(&["train", "--config", "gpt2-pico", "--checkpoints", below.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("the checkpoint could not be written"), "{text}");
}

/// What is printed of every recording, numbers within their bounds: the exit code is 0 only then.
#[test]
fn the_loop_is_hugging_faces_number_by_number() {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/loop");
    let mut names: Vec<_> = fs::read_dir(&recordings).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.is_dir());
    names.sort();
    assert_eq!(names.len(), 11);
    for path in names {
        let compared = output(&["train", "--recording", path.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&compared.stdout);
        assert_eq!(compared.status.code(), Some(0), "{text}");
        assert!(text.ends_with("every quantity is within its bound\n"), "{text}");
    }
}
