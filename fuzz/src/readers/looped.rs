//! What a training loop keeps and what it is held to: checkpoints, and recordings of another loop.

use super::tensors::OF_TENSORS;
use crate::{
    Made, Reader,
    reader::{FOLDER, folder, put, told, whole as error_text},
};
use lossproof_loop::{
    Length, Objective, Progress, Remainder, Schedule, Semantics, Settings, adam_w,
    checkpoint::{Checkpoint, Environment, sha256},
    recording::Recording,
};
use lossproof_subject::{TensorSet, TrainerState, safetensors::encode};
use std::{collections::BTreeMap, error::Error, fs, path::Path};
use tempfile::TempDir;

const MANIFEST: &str = "manifest.json";
const RUN: &str = "run.json";
const MODEL: &str = "model.safetensors";

/// The files of a checkpoint by their names, as they are written.
fn files() -> Result<BTreeMap<String, Vec<u8>>, Box<dyn Error>> {
    let small = super::tensors::small()?;
    let checkpoint = Checkpoint {
        settings: Settings {
            semantics: Semantics::LAWFUL,
            objective: Objective::Causal,
            block: 16,
            remainder: Remainder::Kept,
            validation_percent: 10,
            batch: 2,
            evaluation_batch: 2,
            accumulate: 2,
            ranks: 1,
            length: Length::Updates(9),
            seed: 7,
            rule: adam_w(0.1),
            learning_rate: 1e-3,
            schedule: Schedule::Cosine,
            warm_up: 1,
            clip: None,
            label_smoothing: 0.0,
            dropout: 0.0,
            evaluate_every: 0,
        },
        environment: Environment {
            trainer: "t 1".to_owned(),
            framework: "none".to_owned(),
            config: "pico".to_owned(),
            dtype: "f64".to_owned(),
            device: "cpu".to_owned(),
            threads: 1,
            text: sha256(b"text"),
        },
        progress: Progress { updates: 3, micro_batch: 2, ..Progress::default() },
        state: TrainerState {
            updates: 3,
            parameters: small.clone(),
            first_moments: small,
            second_moments: TensorSet::new(),
        },
    };
    let into = folder()?;
    let place = checkpoint.write(into.path())?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        files.insert(name.to_owned(), fs::read(&path)?);
    }
    Ok(files)
}

/// A folder with these files.
fn filled(files: &BTreeMap<String, Vec<u8>>) -> Result<TempDir, Box<dyn Error>> {
    let folder = folder()?;
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes)?;
    }
    Ok(folder)
}

/// The list of files is read twice, and every file that it names is in memory.
pub(super) fn manifest() -> Made {
    let files = files()?;
    let valid = vec![files.get(MANIFEST).cloned().unwrap_or_default()];
    let read = |path: &Path| told(Checkpoint::read(path.parent().unwrap_or(path)));
    // Which file is at fault is for what it says to decide.
    Ok(Reader { file: Some(FOLDER), ..Reader::of_file(filled(&files)?, MANIFEST, 64, valid, read) })
}

/// A file of a checkpoint, beside a list that has the length and the hash of whatever is in it.
fn listed(file: &'static str, multiple: usize) -> Made {
    let files = files()?;
    let valid = vec![files.get(file).cloned().unwrap_or_default()];
    let folder = filled(&files)?;
    let mut others = String::new();
    for (name, bytes) in files.iter().filter(|(name, _)| ![file, MANIFEST].contains(&name.as_str())) {
        others.push_str(&entry(name, bytes));
        others.push(',');
    }
    let read = move |bytes: &[u8]| {
        put(&folder.path().join(file), bytes)?;
        let manifest = format!("{{\"format\":1,\"files\":{{{others}{}}}}}", entry(file, bytes));
        put(&folder.path().join(MANIFEST), manifest.as_bytes())?;
        told(Checkpoint::read(folder.path()))
    };
    Ok(Reader { file: Some(file), ..Reader::of_bytes(multiple, valid, read) })
}

/// A file's line in the list of a checkpoint.
fn entry(name: &str, bytes: &[u8]) -> String {
    format!("\"{name}\":{{\"bytes\":{},\"sha256\":\"{}\"}}", bytes.len(), sha256(bytes))
}

/// Of a run there is one of everything.
pub(super) fn run() -> Made {
    listed(RUN, 16)
}

pub(super) fn tensors() -> Made {
    listed(MODEL, OF_TENSORS)
}

/// A run of one epoch with two updates, two ranks, and what a collator masked.
const RECORDING: &str = r#"{"format":1,"how":"by hand","settings":{"config":"gpt2-pico","text_bytes":4,"text_sha256":"00",
"objective":"causal","block":4,"batch":1,"evaluation_batch":1,"validation_percent":12,"accumulate":1,"ranks":2,
"epochs":1,"max_updates":null,"learning_rate":0.003,"schedule":"linear","warm_up":0,"weight_decay":0.1,"seed":7,
"dropout":0.0,"tracking":"after-41904","decay_groups":"before-42769"},"training_blocks":2,"validation_blocks":1,
"parameters":["a","b"],"undecayed":["b"],"resumed":{"updates":1,"starting_epoch":0,"skipped":1,"from":"step"},
"epochs":[{"epoch":0,"order":[[[0],[1]],[[1],[0]]],"train_loss":1.5,"evaluation_loss":"NaN","perplexity":"inf"}],
"micro_batch_losses":[[[1.5,2.5],[1.0,"NaN"]]],"updates":[{"update":1,"epoch":0,"micro_batches":1,"learning_rate":0.1,
"gradient_norms":[1.0,2.0],"parameter_norms":[1.0,"inf"],"projections":[[1.0,2.0]]}],"whole":[1],
"masked":{"training":[[[[{"input_ids":[1,2],"labels":[-100,2]}]]]],"validation":[]}}"#;

/// As little as a recording may have.
const SHORT: &str = r#"{"format":1,"how":"","settings":{"config":"","text_bytes":0,"text_sha256":"","objective":"masked",
"block":0,"batch":0,"evaluation_batch":0,"validation_percent":0,"accumulate":0,"ranks":0,"epochs":0,"max_updates":3,
"learning_rate":0,"schedule":"cosine","warm_up":0,"weight_decay":0,"seed":0,"dropout":0,"tracking":"before-41904",
"decay_groups":"after-42769"},"training_blocks":0,"validation_blocks":0,"parameters":[],"undecayed":[],"resumed":null,
"epochs":[],"micro_batch_losses":[],"updates":[],"whole":[],"masked":null}"#;

/// The files beside `recording.json`.
fn states() -> Result<BTreeMap<String, Vec<u8>>, Box<dyn Error>> {
    let initial = encode(&super::tensors::small()?)?;
    let parts = ["parameters.", "first.", "second."];
    let mut state = TensorSet::new();
    for part in parts {
        state.extend(
            super::tensors::small()?.into_iter().map(|(name, tensor)| (format!("{part}{name}"), tensor)),
        );
    }
    let state = encode(&state)?;
    Ok(BTreeMap::from([
        ("initial.safetensors".to_owned(), initial),
        ("resumed.safetensors".to_owned(), state.clone()),
        ("update-1.safetensors".to_owned(), state),
    ]))
}

/// A recording with its settings, which are read from it.
fn whole(folder: &Path) -> Result<(), String> {
    let recording = Recording::read(folder).map_err(|error| error_text(&error))?;
    told(recording.settings())
}

/// An empty list has two or three bytes, and is a vector of 24.
pub(super) fn recording() -> Made {
    let valid = [RECORDING, SHORT].map(|text| text.as_bytes().to_vec()).to_vec();
    let read = |path: &Path| whole(path.parent().unwrap_or(path));
    Ok(Reader {
        file: Some(FOLDER),
        ..Reader::of_file(filled(&states()?)?, "recording.json", 64, valid, read)
    })
}

/// Tensors are sorted into parameters and moments, which takes them once more.
pub(super) fn recorded_tensors() -> Made {
    let mut files = states()?;
    files.insert("recording.json".to_owned(), RECORDING.as_bytes().to_vec());
    let file = "update-1.safetensors";
    let valid = vec![files.get(file).cloned().unwrap_or_default()];
    let read = |path: &Path| whole(path.parent().unwrap_or(path));
    Ok(Reader::of_file(filled(&files)?, file, 2 * OF_TENSORS, valid, read))
}
