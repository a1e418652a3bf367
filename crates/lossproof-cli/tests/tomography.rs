//! `lossproof tomography`: honest trainers agree, and a fault's weights are recovered and named.
#![cfg(feature = "trainers")]

use std::{fs, path::Path, process::Command};

/// What is printed on stdout and stderr, and the exit code.
fn tomography(arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_lossproof"))
        .arg("tomography")
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .output()
        .expect("the command runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// Runs the command, and holds it to its exit code and to sentences, which may be wrapped anywhere.
#[track_caller]
fn says(arguments: &[&str], code: i32, sentences: &[&str]) -> String {
    let (printed, complaint, found) = tomography(arguments);
    assert_eq!(found, Some(code), "{arguments:?}: {complaint}\n{printed}");
    let unwrapped = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in sentences {
        assert!(unwrapped.contains(sentence), "{arguments:?}: no `{sentence}` in\n{printed}");
    }
    printed
}

const AGREES: &str = "agrees with what was asked for";
const STEP: &str = "What is said of the gradient is true of the step.";
const AS_DECLARED: &str = "the per-token mean over the global batch, as declared";

#[test]
fn honest_trainers_have_the_weights_that_are_asked_for() {
    for subject in ["reference", "libtorch"] {
        for dtype in ["f64", "f32"] {
            let told = [AS_DECLARED, "the loss of the whole window is reported, as declared", STEP, AGREES];
            let printed = says(&["--subject", subject, "--dtype", dtype], 0, &told);
            assert!(!printed.contains('≠') && printed.contains("  1/31  "), "{printed}");
        }
    }
    says(&["--spec", "naive-accumulated-mean"], 0, &["naive accumulated mean", AGREES]);
    says(&["--spec", "sequence-mean", "--subject", "libtorch"], 0, &["per-sequence mean", AGREES]);
}

#[test]
fn a_trainer_that_shows_less_is_seen_by_other_instruments() {
    let bare = ["--claim", "token-mean", "--profile", "bare"];
    let own = "By least squares over the trainer's own gradients of one token at a time.";
    let told = [own, AS_DECLARED, "cannot evaluate token losses", "does not support optimizer steps", AGREES];
    says(&bare, 0, &told);
    let steps = ["--claim", "token-mean", "--profile", "steps"];
    says(&steps, 0, &[own, AS_DECLARED, STEP, AGREES]);
    let wrong = ["--claim", "token-mean", "--profile", "bare", "--fault", "ga-mean-of-means"];
    says(&wrong, 1, &["not the per-token mean", "found: naive accumulated mean"]);
}

#[test]
fn faults_are_recovered_and_named() {
    says(
        &["--fault", "ga-mean-of-means"],
        1,
        &[
            "with the fault ga-mean-of-means",
            "not the per-token mean over the global batch",
            "found: naive accumulated mean",
            "4.1",
            "disagrees with what was asked for: the gradient",
        ],
    );
    says(
        &["--fault", "pad-in-denominator"],
        1,
        &["padding", "not the per-token mean over the global batch", "hence violated"],
    );
    let printed = says(
        &["--fault", "log-loss-misscaled-under-ga"],
        1,
        &[
            AS_DECLARED,
            "it logs one loss and optimises another",
            "It has the weights of: naive accumulated mean",
        ],
    );
    assert!(printed.ends_with("disagrees with what was asked for: the logged loss\n"), "{printed}");
}

#[test]
fn a_backward_pass_that_keeps_one_micro_batch_is_shown_where_it_does() {
    let told = [
        "No weights explain it",
        "layer norms by themselves: not",
        "without weight on 19 supervised positions",
    ];
    says(&["--fault", "grad-assigned-not-accumulated"], 1, &told);
}

#[test]
fn unusable_input_is_named_with_its_place_and_remedy() {
    let directory = tempfile::tempdir().expect("a folder");
    let broken = directory.path().join("broken.json");
    fs::write(&broken, "{\n  \"law\": 3\n}").expect("a file");
    let broken = broken.to_str().expect("a path");
    for (arguments, told) in [
        (&["--fault", "ga-mean"][..], &["there is no fault `ga-mean`", "ga-mean-of-means"][..]),
        (&["--case", "/there/is/no.json"], &["/there/is/no.json"]),
        (&["--case", broken], &["broken.json:2:", "holds no valid case"]),
        (&["--lengths", "40,3"], &["the batch of these lengths", "positions of sequence 0", "--lengths"]),
        (&["--ranks", "2"], &["the lengths of the sequences are not known"]),
        (&["--spec", "mean"], &["possible values"]),
        (&["--spec", "padding-counted"], &["does not support", "--spec"]),
        (&["--config", "gpt2-small"], &["too many for tomography", "gpt2-pico"]),
        (&["--svg", "/there/is/no/folder/weights.svg"], &["could not write /there/is/no/folder/weights.svg"]),
    ] {
        let (printed, complaint, code) = tomography(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {complaint}{printed}");
        assert!(printed.is_empty(), "{arguments:?}: {printed}");
        // The terminal's frame around a message is no part of it.
        let complaint = complaint.replace(['│', '×', '╰', '─', '▶'], " ");
        let unwrapped = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
        for told in told {
            assert!(unwrapped.contains(told), "{arguments:?}: no `{told}` in\n{complaint}");
        }
    }
}

#[test]
fn a_case_file_and_lengths_are_scanned_as_they_stand() {
    let case = "fixtures/cases/vocabulary-permutation/6b078c2e45aa20af.json";
    // It has a z-loss, which nobody evaluates apart.
    says(
        &["--case", case],
        0,
        &["2 of 2 predictions supervised", "z-loss 0.0001, as declared", "without either"],
    );
    let printed =
        says(&["--lengths", "5,3,4", "--micro-batches", "2"], 0, &["9 of 9 predictions supervised"]);
    assert!(printed.contains("  1/9  "), "{printed}");
    says(
        &["--lengths", "5,3,4"],
        0,
        &["not in this batch or semantics: padding, several documents in a sequence"],
    );
    assert!(!printed.contains("several micro-batches"), "{printed}");
}

#[test]
fn the_picture_has_a_row_for_each_measurement_and_is_well_formed() {
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("weights.svg");
    says(&["--fault", "ga-mean-of-means", "--svg", file.to_str().expect("a path")], 1, &[]);
    let svg = fs::read_to_string(&file).expect("the picture");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    for title in
        ["declared: ", "in the gradient", "in the logged loss", "in a plain SGD step", "1/31", "1/42"]
    {
        assert!(svg.contains(title), "no {title} in\n{svg}");
    }
    // 31 supervised predictions, in each of the four rows.
    assert_eq!(svg.matches("<rect").count(), 4 * 31, "{svg}");
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1).map(|rest| rest.split('>').next().expect("a tag")) {
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().expect("a name");
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name), "{svg}"),
            (false, false) => open.push(name),
            (false, true) => {}
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
}
