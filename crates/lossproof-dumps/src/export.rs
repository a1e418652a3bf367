//! Writing an export: a model, batches, and what a trainer that claims a loss must make of them.

use crate::{
    Folder, FolderError, Manifest, Model,
    folder::{CaseText, SCHEMA},
    gradients::LOSS,
    readme::readme,
};
use lossproof_diagnosis::tomography::{TomographyError, token_gradients};
use lossproof_spec::{GlobalBatch, LossSpec};
use lossproof_subject::{
    Collect, Subject, SubjectError, Tensor, TensorSet, TensorValues,
    safetensors::{encode, encode_named},
};
use serde_json::json;
use std::{fs, io, path::Path};

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Cases.
    pub cases: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Writes an export into a folder that is not there yet, or empty. `reference` computes what is expected, in double
/// precision, at these `parameters`, which are written as they are.
///
/// The folder is written beside its place and moved there whole.
///
/// # Errors
/// When the folder holds something, cannot be written, or the reference fails.
pub fn export(
    reference: &mut dyn Subject,
    model: Model,
    parameters: &TensorSet,
    claim: &LossSpec,
    batches: &[GlobalBatch],
    into: &Folder,
) -> Result<Exported, FolderError> {
    let target = into.path();
    if fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) || target.is_file() {
        return Err(FolderError::Occupied { path: target.to_owned() });
    }
    let writing = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| FolderError::Write { path, source }
    };
    let beside = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let made = tempfile::Builder::new().prefix(".export").tempdir_in(beside).map_err(writing(beside))?;
    let folder = Folder::new(made.path());
    let mut bytes = 0;
    let mut write = |path: &Path, content: &[u8]| {
        bytes += content.len() as u64;
        fs::write(path, content).map_err(writing(path))
    };
    for name in ["cases", "tokens", "answers"] {
        let path = made.path().join(name);
        fs::create_dir(&path).map_err(writing(&path))?;
    }
    let mut names = Vec::new();
    for (batch, number) in batches.iter().zip(1..) {
        let case = format!("{number:03}");
        let failed = |source| FolderError::Reference { case: case.clone(), source: Box::new(source) };
        let (expected, tokens) = expected(reference, parameters, claim, batch).map_err(failed)?;
        write(&folder.batch_file(&case), &json_line(&CaseText { batch: batch.clone() }))?;
        write(&folder.expected_file(&case), &tensors(&folder.expected_file(&case), &expected)?)?;
        write(&folder.tokens_file(&case), &tensors(&folder.tokens_file(&case), &tokens)?)?;
        names.push(case);
    }
    let info = reference.info();
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        claim: *claim,
        reference: format!("{} {} ({})", info.name, info.version, info.framework),
        cases: names,
        model,
    };
    write(&folder.manifest_file(), &json_text(&manifest))?;
    write(&made.path().join("config.json"), &json_text(&config(&manifest.model)))?;
    write(&made.path().join("README.md"), readme(&manifest).as_bytes())?;
    let model_file = made.path().join("model.safetensors");
    let stored =
        encode(parameters).map_err(|source| FolderError::Tensors { path: model_file.clone(), source })?;
    write(&model_file, &stored)?;
    let cases = manifest.cases.len();
    // A folder that is there and empty may be replaced, one that is not may not.
    let made = made.keep();
    fs::rename(&made, target).map_err(|source| {
        // What was made is of no use elsewhere.
        let _ = fs::remove_dir_all(&made);
        FolderError::Write { path: target.to_owned(), source }
    })?;
    Ok(Exported { cases, bytes })
}

/// Named tensors in the order in which they are written.
type Named = Vec<(String, Tensor)>;

/// The loss, the token losses and the gradient of a batch, and the gradient of each token loss.
fn expected(
    reference: &mut dyn Subject,
    parameters: &TensorSet,
    claim: &LossSpec,
    batch: &GlobalBatch,
) -> Result<(Named, Named), TomographyError> {
    let subject = reference.info().name;
    let lacks = |capability| TomographyError::Lacks {
        subject: subject.clone(),
        capability,
        remedy: "what is expected cannot be computed without it",
    };
    let load = |reference: &mut dyn Subject| match reference.parameter_loading() {
        Some(loader) => loader.load(parameters).map_err(TomographyError::from),
        None => Err(lacks("take parameters")),
    };
    load(reference)?;
    reference.configure(claim)?;
    let mut sink = Collect::default();
    let observation = reference.accumulate(batch, &mut sink)?;
    let losses = match reference.token_losses() {
        Some(evaluated) => evaluated.evaluate(batch)?,
        None => return Err(lacks("evaluate token losses")),
    };
    let mut expected = vec![
        (LOSS.to_owned(), values(Vec::new(), vec![observation.loss])?),
        ("token_losses".to_owned(), values(vec![losses.len()], losses)?),
    ];
    for (name, tensor) in sink.into_tensors() {
        expected.push((format!("gradients/{name}"), tensor));
    }
    load(reference)?;
    let mut tokens = Vec::new();
    for (index, gradients) in token_gradients(reference, claim, batch)?.into_iter().enumerate() {
        for (name, tensor) in gradients {
            tokens.push((format!("{index}/{name}"), tensor));
        }
    }
    Ok((expected, tokens))
}

fn values(shape: Vec<usize>, values: Vec<f64>) -> Result<Tensor, TomographyError> {
    Tensor::new(shape, TensorValues::F64(values))
        .map_err(|error| SubjectError::failed("the reference", &error).into())
}

fn tensors(path: &Path, named: &[(String, Tensor)]) -> Result<Vec<u8>, FolderError> {
    encode_named(named.iter().map(|(name, tensor)| (name.clone(), tensor)))
        .map_err(|source| FolderError::Tensors { path: path.to_owned(), source })
}

fn json_line(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("invariant: an export has string keys only")
}

fn json_text(value: &impl serde::Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("invariant: an export has string keys only");
    text.push(b'\n');
    text
}

/// The model as transformers reads it.
fn config(model: &Model) -> serde_json::Value {
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": model.vocabulary,
        "n_positions": model.positions,
        "n_embd": model.width,
        "n_head": model.heads,
        "n_layer": model.layers,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "bos_token_id": null,
        "eos_token_id": null,
        "tie_word_embeddings": true,
    })
}
