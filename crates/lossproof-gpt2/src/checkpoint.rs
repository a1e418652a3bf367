//! Parameters in Hugging Face's GPT-2 safetensors: names as in `GPT2LMHeadModel`, weights of linear maps `[in, out]`
//! (`Conv1D`), query, key and value fused in `c_attn`.

use crate::ModelShape;
use lossproof_subject::{
    SubjectError, TensorSet, TensorValues,
    safetensors::{self, CodecError},
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Reads the parameters of a model of this shape.
///
/// The prefix `transformer.` is dropped, the causal-mask buffers of old checkpoints (`attn.bias`, `attn.masked_bias`)
/// are passed over, and so is `lm_head.weight` when it equals the token embedding it is tied to. F32 and F64 are read.
///
/// # Errors
/// When the file cannot be read, is not whole, or does not hold exactly the parameters of the shape, all finite.
pub fn load(path: &Path, shape: ModelShape) -> Result<TensorSet, CheckpointError> {
    let at = |problem| CheckpointError { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(|error| at(Problem::Io(error)))?;
    let parameters = decode(&bytes).map_err(at)?;
    check(shape, &parameters).map_err(|error| at(Problem::Parameter(error)))?;
    Ok(parameters)
}

/// Writes parameters under the names `GPT2LMHeadModel` saves them with, atomically: the file is there whole
/// or not at all.
///
/// # Errors
/// When the directory cannot be written to; a file that was there before is untouched then.
pub fn save(path: &Path, parameters: &TensorSet) -> Result<(), CheckpointError> {
    let at = |problem| CheckpointError { path: path.to_owned(), problem };
    let named = parameters.iter().map(|(name, tensor)| (format!("transformer.{name}"), tensor));
    let bytes = safetensors::encode_named(named).map_err(|error| at(Problem::Format(error)))?;
    lossproof_files::write(path, &bytes).map_err(|error| at(Problem::Io(error)))
}

/// Whether `parameters` are exactly those of a model of this shape, all finite.
pub(crate) fn check(shape: ModelShape, parameters: &TensorSet) -> Result<(), SubjectError> {
    let error = |name: &str, problem: String| SubjectError::Parameter { name: name.to_owned(), problem };
    let expected = shape.parameters();
    for (name, shape) in &expected {
        let tensor = parameters.get(name).ok_or_else(|| error(name, "is missing".to_owned()))?;
        if tensor.shape() != shape {
            return Err(error(name, format!("has shape {:?}, expected {shape:?}", tensor.shape())));
        }
        // On this thread: to wake others takes longer than a look at a small tensor, and laws load parameters often.
        let not_finite = match tensor.values() {
            TensorValues::F32(values) => values.iter().position(|value| !value.is_finite()),
            TensorValues::F64(values) => values.iter().position(|value| !value.is_finite()),
        };
        if let Some(index) = not_finite {
            return Err(error(name, format!("is {} at index {index}; it must be finite", tensor.get(index))));
        }
    }
    match parameters.keys().find(|name| !expected.iter().any(|(known, _)| known == *name)) {
        Some(name) => Err(error(name, "is not a parameter of this model".to_owned())),
        None => Ok(()),
    }
}

fn decode(bytes: &[u8]) -> Result<TensorSet, Problem> {
    let buffer = |name: &str| name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
    let stored = safetensors::decode_where(bytes, |name| !buffer(name)).map_err(Problem::Format)?;
    let mut parameters = TensorSet::new();
    let mut head = None;
    for (stored_name, tensor) in stored {
        let name = stored_name.strip_prefix("transformer.").unwrap_or(&stored_name);
        if name == "lm_head.weight" {
            head = Some(tensor);
        } else {
            parameters.insert(name.to_owned(), tensor);
        }
    }
    match (head, parameters.get("wte.weight")) {
        (Some(head), Some(embedding)) if head != *embedding => Err(Problem::UntiedHead),
        _ => Ok(parameters),
    }
}

/// A checkpoint that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {}", path.display())]
pub struct CheckpointError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file system's answer.
    #[error("could not be accessed")]
    Io(#[source] io::Error),
    /// Not a whole safetensors file of F32 or F64.
    #[error(transparent)]
    Format(CodecError),
    /// A head of its own.
    #[error("`lm_head.weight` differs from `wte.weight`: this model ties them")]
    UntiedHead,
    /// A parameter that does not fit.
    #[error(transparent)]
    Parameter(SubjectError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, gpt2_initial};
    use lossproof_subject::{Tensor, TensorValues};

    fn pico() -> (ModelShape, TensorSet) {
        let shape = Config::Pico.shape();
        (shape, gpt2_initial(shape, 7))
    }

    fn problem(shape: ModelShape, change: impl FnOnce(&mut TensorSet)) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let (_, mut parameters) = pico();
        change(&mut parameters);
        save(&path, &parameters).unwrap();
        load(&path, shape).unwrap_err().problem.to_string()
    }

    #[test]
    fn what_is_saved_is_loaded_bit_for_bit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let (shape, parameters) = pico();
        save(&path, &parameters).unwrap();
        assert_eq!(load(&path, shape).unwrap(), parameters);
    }

    #[test]
    fn a_truncated_or_hostile_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let (shape, parameters) = pico();
        save(&path, &parameters).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 4, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(matches!(load(&path, shape).unwrap_err().problem, Problem::Format(_)), "cut at {cut}");
        }
        let mut hostile = bytes;
        hostile[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(&path, hostile).unwrap();
        assert!(matches!(load(&path, shape).unwrap_err().problem, Problem::Format(_)));
        assert!(matches!(load(&directory.path().join("absent"), shape).unwrap_err().problem, Problem::Io(_)));
    }

    #[test]
    fn wrong_parameters_are_named() {
        let (shape, _) = pico();
        assert!(problem(shape, |p| drop(p.remove("ln_f.bias"))).contains("`ln_f.bias`: is missing"));
        let extra = problem(shape, |p| {
            let copy = p["ln_f.bias"].clone();
            p.insert("h.9.ln_1.bias".to_owned(), copy);
        });
        assert!(extra.contains("`h.9.ln_1.bias`: is not a parameter"), "{extra}");
        let nan = problem(shape, |p| {
            let values = TensorValues::F64(vec![0.0, f64::NAN, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
            p.insert("ln_f.bias".to_owned(), Tensor::new(vec![8], values).unwrap());
        });
        assert!(nan.contains("NaN at index 1"), "{nan}");
        assert!(problem(Config::Nano.shape(), |_| ()).contains("expected [257, 32]"));
    }

    #[test]
    fn buffers_and_a_tied_head_are_passed_over_and_an_untied_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let (shape, parameters) = pico();
        let mut more = parameters.clone();
        let mask = Tensor::new(vec![1], TensorValues::F32(vec![1.0])).unwrap();
        more.insert("h.0.attn.bias".to_owned(), mask);
        more.insert("lm_head.weight".to_owned(), parameters["wte.weight"].clone());
        save(&path, &more).unwrap();
        assert_eq!(load(&path, shape).unwrap(), parameters);
        let untied = Tensor::new(vec![64, 8], TensorValues::F32(vec![0.5; 512])).unwrap();
        more.insert("lm_head.weight".to_owned(), untied);
        save(&path, &more).unwrap();
        assert!(matches!(load(&path, shape).unwrap_err().problem, Problem::UntiedHead));
    }
}
