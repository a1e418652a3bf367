//! What trainers leave in files: answers to an export, dumps of gradients, and logs.
#![cfg(feature = "trainers")]

use lossproof_spec::{Dtype, GlobalBatch, LossSpec};
use lossproof_subject::{
    Collect, Device, Tensor, TensorSet, TensorValues,
    safetensors::{decode, encode},
};
use lossproof_torch::{Gpt2Config, libtorch};
use serde_json::Value;
use std::{fs, path::Path, process::Command};

fn lossproof(arguments: &[&str]) -> (String, Option<i32>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_lossproof")).args(arguments).output().expect("the command runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (String::from_utf8(output.stdout).expect("UTF-8") + &error, output.status.code())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// Exports some cases under the per-token mean.
fn exported(folder: &Path, cases: &str) {
    let out = text(folder);
    let (said, code) = lossproof(&["export", "--cases", cases, "--ranks", "2", "--out", out]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{cases} batches for gpt2-pico")), "{said}");
}

fn batch(folder: &Path, case: &str) -> GlobalBatch {
    let text = fs::read(folder.join(format!("cases/{case}.json"))).expect("a batch");
    let value: Value = serde_json::from_slice(&text).expect("JSON");
    serde_json::from_value(value["batch"].clone()).expect("a batch")
}

/// What libtorch makes of a case in single precision, under a loss of its own, under the names of transformers.
fn answered(folder: &Path, case: &str, spec: &LossSpec) -> TensorSet {
    let config = Gpt2Config::named("gpt2-pico").expect("a configuration");
    let mut trainer = libtorch(&config, Dtype::F32, Device::Cpu).expect("libtorch");
    let parameters = decode(&fs::read(folder.join("model.safetensors")).expect("a model")).expect("tensors");
    trainer.parameter_loading().expect("it takes parameters").load(&parameters).expect("they fit");
    trainer.configure(spec).expect("it has the loss");
    let mut sink = Collect::default();
    let observation = trainer.accumulate(&batch(folder, case), &mut sink).expect("a gradient");
    let mut answer: TensorSet = sink
        .into_tensors()
        .into_iter()
        .map(|(name, tensor)| (format!("transformer.{name}"), tensor))
        .collect();
    let loss = Tensor::new(Vec::new(), TensorValues::F64(vec![observation.loss])).expect("a number");
    answer.insert("loss".to_owned(), loss);
    answer
}

fn answer(folder: &Path, case: &str, answer: &TensorSet) {
    fs::write(folder.join(format!("answers/{case}.safetensors")), encode(answer).expect("tensors"))
        .expect("an answer");
}

fn scaled(tensor: &Tensor, factor: f64) -> Tensor {
    #[expect(clippy::cast_possible_truncation, reason = "gradients are in single precision")]
    let values = tensor.to_f64().into_iter().map(|value| (factor * value) as f32).collect();
    Tensor::new(tensor.shape().to_vec(), TensorValues::F32(values)).expect("the same shape")
}

#[test]
fn a_trainer_that_writes_files_is_told_what_its_tokens_weigh() {
    let directory = tempfile::tempdir().expect("a folder");
    let folder = directory.path().join("cases");
    exported(&folder, "3");
    let claim = LossSpec::token_mean();
    answer(&folder, "001", &answered(&folder, "001", &claim));
    let (said, code) = lossproof(&["check", text(&folder)]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("1 of 3 cases agree, 0 disagree, 0 undecided, 2 without an answer"), "{said}");

    for case in ["002", "003"] {
        answer(&folder, case, &answered(&folder, case, &claim));
    }
    let (said, code) = lossproof(&["check", text(&folder)]);
    assert_eq!(code, Some(0), "{said}");

    // The designed batch has 31 supervised tokens and 35 labels before the shift.
    let counted_before = answered(&folder, "001", &claim);
    let counted_before: TensorSet =
        counted_before.into_iter().map(|(name, tensor)| (name, scaled(&tensor, 31.0 / 35.0))).collect();
    answer(&folder, "001", &counted_before);
    let json = directory.path().join("report.json");
    let (said, code) = lossproof(&["check", text(&folder), "--json", text(&json)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("case 001: the loss is the expected one times 0.8857 = 31/35"), "{said}");
    assert!(said.contains("supervised / labels before the shift (31 / 35)"), "{said}");
    assert!(said.contains("What every prediction of case 001 weighs"), "{said}");
    assert!(said.contains("case 001: the gradient is the gradient of this loss"), "{said}");
    let report: Value = serde_json::from_slice(&fs::read(&json).expect("a report")).expect("JSON");
    assert_eq!(report["cases"][0]["verdict"], "disagrees");
    assert_eq!(report["cases"][1]["verdict"], "agrees");

    // Right in the gradient, and counted before the shift in what is logged.
    let mut logged_wrong = answered(&folder, "001", &claim);
    logged_wrong.insert("loss".to_owned(), counted_before["loss"].clone());
    answer(&folder, "001", &logged_wrong);
    let (said, code) = lossproof(&["check", text(&folder)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("case 001: the gradient is the gradient of another loss than this one"), "{said}");

    answer(&folder, "001", &answered(&folder, "001", &LossSpec::naive_accumulated_mean()));
    let (said, _) = lossproof(&["check", text(&folder)]);
    assert!(said.contains("naive accumulated mean"), "{said}");
}

#[test]
fn an_answer_that_is_not_whole_does_not_agree() {
    let directory = tempfile::tempdir().expect("a folder");
    let folder = directory.path().join("cases");
    exported(&folder, "1");
    let whole = answered(&folder, "001", &LossSpec::token_mean());
    let mut lacking = whole.clone();
    lacking.remove("transformer.wpe.weight");
    answer(&folder, "001", &lacking);
    let (said, code) = lossproof(&["check", text(&folder)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("case 001: no gradient of wpe.weight"), "{said}");

    let path = folder.join("answers/001.safetensors");
    let bytes = encode(&whole).expect("tensors");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("half an answer");
    let (said, code) = lossproof(&["check", text(&folder)]);
    assert_eq!(code, Some(1), "{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("is neither safetensors nor a debug state"), "{said}");

    // What was exported is not trusted either.
    fs::write(folder.join("cases/001.json"), "{\"batch\": []}").expect("a changed batch");
    let (said, code) = lossproof(&["check", text(&folder)]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is not as it was exported"), "{said}");
    let (said, code) = lossproof(&["export", "--out", text(&folder)]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is there and not empty"), "{said}");
}

#[test]
fn the_same_command_exports_the_same_bytes() {
    let directory = tempfile::tempdir().expect("a folder");
    let folders = ["one", "other"].map(|name| directory.path().join(name));
    for folder in &folders {
        exported(folder, "2");
    }
    for file in
        ["export.json", "model.safetensors", "cases/002.safetensors", "tokens/002.safetensors", "README.md"]
    {
        let [one, other] = [0, 1].map(|index| fs::read(folders[index].join(file)).expect("a file"));
        assert_eq!(one, other, "{file}");
    }
}

#[test]
fn a_dump_says_which_gradients_are_missing_or_zero() {
    let directory = tempfile::tempdir().expect("a folder");
    let folder = directory.path().join("cases");
    exported(&folder, "1");
    let mut dump = answered(&folder, "001", &LossSpec::token_mean());
    let path = directory.path().join("grads.safetensors");
    fs::write(&path, encode(&dump).expect("tensors")).expect("a dump");
    let (said, code) = lossproof(&["grads", text(&path)]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing is wrong with them by themselves"), "{said}");
    let zero = Tensor::new(vec![8], TensorValues::F32(vec![0.0; 8])).expect("zeros");
    dump.insert("transformer.ln_f.bias".to_owned(), zero);
    dump.insert(
        "transformer.ln_f.weight".to_owned(),
        Tensor::new(vec![2], TensorValues::F32(vec![f32::NAN, 1.0])).expect("numbers"),
    );
    fs::write(&path, encode(&dump).expect("tensors")).expect("a dump");
    let json = directory.path().join("report.json");
    let (said, code) = lossproof(&["grads", text(&path), "--json", text(&json)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("zero: transformer.ln_f.bias"), "{said}");
    assert!(said.contains("no number: transformer.ln_f.weight has 1 NaN and 0 infinite"), "{said}");
    let report: Value = serde_json::from_slice(&fs::read(&json).expect("a report")).expect("JSON");
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(2), "{report}");
}

#[test]
fn two_logs_part_where_they_do_and_the_factor_has_a_name() {
    let directory = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("a log");
        path
    };
    let state = file(
        "trainer_state.json",
        r#"{"log_history": [
            {"step": 1, "loss": 4.1, "grad_norm": 1.25, "learning_rate": 0.001},
            {"step": 2, "loss": 4.05, "grad_norm": 1.125, "learning_rate": 0.001}]}"#,
    );
    let log = file(
        "main.log",
        "s:0 tel:4.2000\ns:0 trl:4.1000 lr:0.001000 norm:10.00\ns:1 trl:4.0500 lr:0.001000 norm:9.00\n",
    );
    let json = directory.path().join("diff.json");
    let (said, code) = lossproof(&[
        "trace",
        "diff",
        text(&state),
        text(&log),
        "--micro-batches",
        "8",
        "--json",
        text(&json),
    ]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("\ngrad norm: 8.00"), "{said}");
    assert!(said.contains("= micro-batches (8)"), "{said}");
    assert!(said.contains("they part at update 1"), "{said}");
    assert!(said.contains("agrees: loss at 2 of 2 and 2 places"), "{said}");
    let report: Value = serde_json::from_slice(&fs::read(&json).expect("a report")).expect("JSON");
    assert_eq!(report["agrees"], false);
    assert_eq!(report["comparison"]["curves"].as_array().map(Vec::len), Some(3), "{report}");

    let (said, code) = lossproof(&["trace", "diff", text(&log), text(&log)]);
    assert_eq!(code, Some(0), "{said}");
    let (said, code) = lossproof(&["trace", "plot", text(&log), "--quantity", "loss"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("loss by update") && said.contains("4.1000e0 │·"), "{said}");
    let (said, code) = lossproof(&["trace", "plot", text(&log), "--quantity", "perplexity"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("it has: learning rate, loss, grad norm, validation loss"), "{said}");
}

#[test]
fn a_page_junit_and_lines_of_json_tell_what_was_printed() {
    let directory = tempfile::tempdir().expect("a folder");
    let file = |name: &str| directory.path().join(name);
    let [html, junit, lines] = [file("report.html"), file("report.xml"), file("report.jsonl")];
    let asked = ["tomography", "--fault", "pad-in-denominator"];
    let files = ["--html", text(&html), "--junit", text(&junit), "--json-lines", text(&lines)];
    let (said, code) = lossproof(&[&asked[..], &files[..]].concat());
    assert_eq!(code, Some(1), "{said}");
    let page = fs::read_to_string(&html).expect("a page");
    assert!(page.contains("lossproof tomography --fault pad-in-denominator"), "{page}");
    assert!(page.contains("recovered over what is claimed") && page.contains("1/31"), "{page}");
    let junit = fs::read_to_string(&junit).expect("JUnit");
    assert!(junit.contains("<testsuites") && junit.contains("<failure"), "{junit}");
    let lines = fs::read_to_string(&lines).expect("lines");
    let first: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["schema"], "lossproof-report/1");
    assert_eq!(lines.lines().count(), 1 + 3, "{lines}");

    let (said, code) = lossproof(&["laws", "--law", "packing", "--cases", "4", "--html", text(&html)]);
    assert_eq!(code, Some(0), "{said}");
    assert!(fs::read_to_string(&html).expect("a page").contains("conforms"));
    let nowhere = file("nowhere/report.html");
    let (said, code) = lossproof(&["laws", "--law", "packing", "--html", text(&nowhere)]);
    assert_eq!(code, Some(2), "{said}");
    let (said, code) = lossproof(&["faults", "--profiles", "--html", text(&html)]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("which law fails under which bug"), "{said}");
}
