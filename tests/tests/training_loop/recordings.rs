//! The loop beside recordings of Hugging Face's: a switch that is set otherwise, or a number that is moved, shows.

use lossproof_loop::recording::{Comparison, Recording, compare};
use lossproof_spec::Dtype;
use lossproof_tests::training_loop::Under;
use std::{fs, path::Path};

const TEXT: &[u8] = include_bytes!("../../../fixtures/text/alice.txt");

fn recording(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/loop").join(name)
}

fn compared(folder: &Path) -> Comparison {
    let recording = Recording::read(folder).expect("the run of a test");
    compare(&mut *Under::Libtorch.trainer(Dtype::F64), &recording, TEXT).expect("the run of a test")
}

/// The quantities that are out of bounds once a text of `recording.json` is replaced.
fn differing(name: &str, from: &str, to: &str) -> Vec<&'static str> {
    let copy = tempfile::tempdir().expect("the run of a test");
    for entry in fs::read_dir(recording(name)).expect("the run of a test") {
        let path = entry.expect("the run of a test").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("the run of a test")))
            .expect("the run of a test");
    }
    let json = copy.path().join("recording.json");
    let text = fs::read_to_string(&json).expect("the run of a test");
    let changed = text.replacen(from, to, 1);
    assert_ne!(changed, text, "{from} is not in the recording");
    fs::write(json, changed).expect("the run of a test");
    compared(copy.path()).rows.iter().filter(|row| !row.holds()).map(|row| row.quantity).collect()
}

#[test]
fn every_switch_of_a_recording_matters() {
    let one = |from, to| differing("one-process", from, to);
    assert!(one("\"warm_up\": 3", "\"warm_up\": 4").contains(&"learning rate"));
    assert!(one("\"schedule\": \"linear\"", "\"schedule\": \"cosine\"").contains(&"learning rate"));
    assert!(one("\"accumulate\": 4", "\"accumulate\": 2").contains(&"updates and their windows"));
    assert!(one("\"weight_decay\": 0.1", "\"weight_decay\": 0.2").contains(&"norm of a parameter"));
    assert_eq!(one("after-41904", "before-41904"), ["training loss of an epoch"]);
    let decay = one("after-42769", "before-42769");
    assert!(decay.contains(&"parameters without decay") && decay.contains(&"norm of a parameter"));
    let dropout = differing("dropout", "\"dropout\": 0.25", "\"dropout\": 0.5");
    assert!(dropout.contains(&"loss of a micro-batch"));
    let seed = differing("dropout", "\"seed\": 2", "\"seed\": 3");
    assert!(seed.contains(&"loss of a micro-batch"));
    let ranks = differing("two-ranks", "\"ranks\": 2", "\"ranks\": 1");
    assert!(ranks.contains(&"micro-batches and fill-ups"));
}

/// Ten times the largest bound there can be is found in every kind of number.
#[test]
fn a_number_that_is_moved_is_found() {
    let text = fs::read_to_string(recording("one-process").join("recording.json")).unwrap();
    let moved = |key: &str| {
        let start = text.rfind(&format!("\"{key}\": ")).unwrap_or_else(|| panic!("no {key}"));
        let digits = text[start..].find(|c: char| c.is_ascii_digit()).unwrap() + start;
        let end = text[digits..].find([',', ']', '}', '\n']).unwrap() + digits;
        let value: f64 = text[digits..end].parse().unwrap();
        let (before, after) =
            (&text[start..end], format!("{}{}", &text[start..digits], value * (1.0 + 1e-11)));
        assert_ne!(before, after);
        differing("one-process", before, &after)
    };
    assert_eq!(moved("learning_rate"), ["learning rate"]);
    assert_eq!(moved("gradient_norms"), ["gradient norm of a tensor"]);
    assert_eq!(moved("parameter_norms"), ["norm of a parameter"]);
    assert_eq!(moved("projections"), ["projection of a parameter"]);
    assert_eq!(moved("evaluation_loss"), ["validation loss"]);
    assert_eq!(moved("perplexity"), ["perplexity"]);
}
