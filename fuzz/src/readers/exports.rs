//! The files of an export, one of them changed and the others as they were, read by holding the answer to it.

use super::tensors::OF_TENSORS;
use crate::{
    Made, Reader,
    reader::{FOLDER, folder, told},
};
use lossproof_dumps::{Folder, check};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Rank, Sequence};
use lossproof_subject::{Tensor, TensorError, TensorSet, TensorValues, safetensors::encode};
use serde_json::json;
use std::{collections::BTreeMap, error::Error, fs, path::Path};

const MANIFEST: &str = "export.json";
const BATCH: &str = "cases/001.json";
const EXPECTED: &str = "cases/001.safetensors";
const TOKENS: &str = "tokens/001.safetensors";
const ANSWER: &str = "answers/001.safetensors";

/// What the examination of one small case takes beside the file that is changed, for each of its bytes.
const OF_A_CASE: usize = 128;

/// The one parameter, and as many values as tell four tokens apart.
const PARAMETER: &str = "h.0.attn.c_attn.weight";
const SHAPE: [usize; 2] = [2, 3];

fn gradient(values: [f64; 6]) -> Result<Tensor, TensorError> {
    Tensor::new(SHAPE.to_vec(), TensorValues::F64(values.to_vec()))
}

/// Four predictions, of which the third is ignored.
fn batch() -> Result<GlobalBatch, Box<dyn Error>> {
    let one = Sequence::new(vec![1, 2, 3], vec![-100, 2, 3])?;
    let other = Sequence::new(vec![4, 5, 6], vec![-100, -100, 6])?;
    Ok(GlobalBatch::new(vec![Rank::new(vec![MicroBatch::new(vec![one, other])?])?])?)
}

/// The files of an export of one case with its answer, which is right.
fn files() -> Result<BTreeMap<&'static str, Vec<u8>>, Box<dyn Error>> {
    let manifest = json!({
        "schema": "lossproof-export/1",
        "model": {"name": "pico", "vocabulary": 61, "positions": 32, "width": 8, "heads": 2, "layers": 1},
        "claim": LossSpec::token_mean(),
        "reference": "by hand",
        "cases": ["001"],
    });
    let by_token = [
        [1.0, 0.0, 0.0, 2.0, 0.0, 1.0],
        [0.0, 1.0, 0.0, 0.0, 3.0, 0.0],
        [0.0, 0.0, 1.0, 1.0, 0.0, 0.5],
        [1.0, 1.0, 1.0, 0.0, 0.0, 4.0],
    ];
    let mut tokens = TensorSet::new();
    for (token, values) in by_token.into_iter().enumerate() {
        tokens.insert(format!("{token}/{PARAMETER}"), gradient(values)?);
    }
    let mean = [0, 1, 2, 3, 4, 5].map(|at| (by_token[0][at] + by_token[1][at] + by_token[3][at]) / 3.0);
    let number = |value| Tensor::new(Vec::new(), TensorValues::F64(vec![value]));
    let expected = TensorSet::from([
        (format!("gradients/{PARAMETER}"), gradient(mean)?),
        ("loss".to_owned(), number(2.0)?),
        ("token_losses".to_owned(), Tensor::new(vec![4], TensorValues::F64(vec![1.0, 2.0, 9.0, 3.0]))?),
    ]);
    let answer =
        TensorSet::from([(PARAMETER.to_owned(), gradient(mean)?), ("loss".to_owned(), number(2.0)?)]);
    Ok(BTreeMap::from([
        (MANIFEST, serde_json::to_vec_pretty(&manifest)?),
        (BATCH, serde_json::to_vec_pretty(&json!({ "batch": batch()? }))?),
        (EXPECTED, encode(&expected)?),
        (TOKENS, encode(&tokens)?),
        (ANSWER, encode(&answer)?),
    ]))
}

/// The answer, held to an export of which one file is the input. An answer that is none is no error of the
/// export, but has one of its own.
fn of(file: &'static str, multiple: usize) -> Made {
    let files = files()?;
    let folder = folder()?;
    for (name, bytes) in &files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(path, bytes)?;
    }
    let export = Folder::new(folder.path());
    let valid = vec![files[file].clone()];
    let read = move |_: &Path| {
        let (_, cases) = check(&export, None).map_err(|error| crate::reader::whole(&error))?;
        for case in cases {
            if let lossproof_dumps::Outcome::Unreadable(error) = case.outcome {
                return told::<(), _>(Err(error));
            }
        }
        Ok(())
    };
    Ok(Reader { file: Some(FOLDER), ..Reader::of_file(folder, file, multiple, valid, read) })
}

pub(super) fn manifest() -> Made {
    of(MANIFEST, OF_A_CASE)
}

pub(super) fn batch_file() -> Made {
    of(BATCH, OF_A_CASE)
}

pub(super) fn expected() -> Made {
    of(EXPECTED, OF_A_CASE + OF_TENSORS)
}

pub(super) fn tokens() -> Made {
    of(TOKENS, OF_A_CASE + OF_TENSORS)
}

pub(super) fn answer() -> Made {
    of(ANSWER, OF_A_CASE + OF_TENSORS)
}
