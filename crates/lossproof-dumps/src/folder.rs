//! The folder of an export: what is in it, and where.
//!
//! ```text
//! README.md                 what this is and how to answer
//! export.json               the manifest
//! config.json               the model, as transformers reads it
//! model.safetensors         its parameters
//! cases/001.json            a batch
//! cases/001.safetensors     the losses and gradients of a trainer that is right
//! tokens/001.safetensors    the gradient of every token loss
//! answers/001.safetensors   what the trainer made of it
//! ```

use lossproof_cases::{ReadError, read_bytes, read_text};
use lossproof_spec::{GlobalBatch, LossSpec, shortened};
use lossproof_subject::{
    TensorSet,
    safetensors::{CodecError, decode},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

/// The schema of the manifest.
pub(crate) const SCHEMA: &str = "lossproof-export/1";
/// The most bytes of one file that are read.
const LARGEST: u64 = 4 << 30;

/// The sizes of the model of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Token ids.
    pub vocabulary: usize,
    /// Positions.
    pub positions: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Transformer blocks.
    pub layers: usize,
}

/// What an export is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// The model.
    pub model: Model,
    /// The loss that the trainer is to have.
    pub claim: LossSpec,
    /// Who computed what is expected.
    pub reference: String,
    /// Names of the cases, in order.
    pub cases: Vec<String>,
}

/// One batch, as it is in its file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseText {
    pub(crate) batch: GlobalBatch,
}

/// A folder that holds an export, or is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

/// Why a folder holds no export, or cannot take one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// There is something in the way.
    #[error("{} is there and not empty: give a folder that is not there yet", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("could not write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("a file of the export could not be read")]
    Read(#[from] ReadError),
    /// A file is not what it was when it was written.
    #[error("{} is not as it was exported: {problem}; export it again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Tensors that cannot be read or written.
    #[error("{} holds no tensors", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CodecError,
    },
    /// What is expected could not be computed.
    #[error("the reference could not compute what is expected of case {case}")]
    Reference {
        /// The case.
        case: String,
        /// What it said.
        source: Box<lossproof_diagnosis::tomography::TomographyError>,
    },
}

impl FolderError {
    /// A file that is not what it was, with what is repeated of it shortened.
    pub(crate) fn changed(path: &Path, problem: &str) -> Self {
        Self::Changed { path: path.to_owned(), problem: shortened(problem) }
    }
}

impl Folder {
    /// A folder.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest's file.
    pub(crate) fn manifest_file(&self) -> PathBuf {
        self.path.join("export.json")
    }

    /// The file of a case's batch.
    pub(crate) fn batch_file(&self, case: &str) -> PathBuf {
        self.path.join("cases").join(format!("{case}.json"))
    }

    /// The file of what is expected of a case.
    pub(crate) fn expected_file(&self, case: &str) -> PathBuf {
        self.path.join("cases").join(format!("{case}.safetensors"))
    }

    /// The file of a case's token gradients.
    pub(crate) fn tokens_file(&self, case: &str) -> PathBuf {
        self.path.join("tokens").join(format!("{case}.safetensors"))
    }

    /// The file in which a trainer's answer to a case is looked for.
    #[must_use]
    pub fn answer_file(&self, case: &str) -> PathBuf {
        self.path.join("answers").join(format!("{case}.safetensors"))
    }

    /// Reads what the export is of.
    ///
    /// # Errors
    /// When there is none, or it is of another version.
    pub fn manifest(&self) -> Result<Manifest, FolderError> {
        let path = self.manifest_file();
        let changed = |problem: String| FolderError::changed(&path, &problem);
        let manifest: Manifest =
            serde_json::from_str(&read_text(&path)?).map_err(|error| changed(error.to_string()))?;
        if manifest.schema != SCHEMA {
            return Err(changed(format!("its schema is {}, this version reads {SCHEMA}", manifest.schema)));
        }
        // A name becomes a part of a path.
        let plain = |name: &String| {
            !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if let Some(name) = manifest.cases.iter().find(|name| !plain(name)) {
            return Err(changed(format!("{name:?} is no name of a case")));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = manifest.cases.iter().find(|&name| !names.insert(name)) {
            return Err(changed(format!("it names the case {twice} twice")));
        }
        manifest.claim.validate().map_err(|error| changed(error.to_string()))?;
        Ok(manifest)
    }

    pub(crate) fn batch(&self, case: &str) -> Result<GlobalBatch, FolderError> {
        let path = self.batch_file(case);
        let text: CaseText = serde_json::from_str(&read_text(&path)?)
            .map_err(|error| FolderError::changed(&path, &error.to_string()))?;
        Ok(text.batch)
    }

    pub(crate) fn tensors(path: &Path) -> Result<TensorSet, FolderError> {
        decode(&read_bytes(path, LARGEST)?)
            .map_err(|source| FolderError::Tensors { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_case_that_is_named_twice_is_not_read_twice() {
        let folder = tempfile::tempdir().unwrap();
        let write = |cases: &[&str]| {
            let manifest = json!({
                "schema": SCHEMA,
                "model": {"name": "m", "vocabulary": 8, "positions": 4, "width": 2, "heads": 1, "layers": 1},
                "claim": LossSpec::token_mean(),
                "reference": "r",
                "cases": cases,
            });
            std::fs::write(folder.path().join("export.json"), manifest.to_string()).unwrap();
            Folder::new(folder.path()).manifest()
        };
        assert_eq!(write(&["001", "002"]).unwrap().cases.len(), 2);
        let error = write(&["001", "002", "001"]).unwrap_err().to_string();
        assert!(error.contains("names the case 001 twice"), "{error}");
    }
}
