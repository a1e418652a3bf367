//! Why a checkpoint cannot be read or written.

use lossproof_spec::concise;
use lossproof_subject::safetensors::CodecError;
use std::{
    io,
    path::{Path, PathBuf},
};

/// A checkpoint that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct CheckpointError {
    /// The file or the folder.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

impl CheckpointError {
    pub(super) fn new(path: &Path, problem: Problem) -> Self {
        Self { path: path.to_owned(), problem }
    }

    /// The error of an operation on a path.
    pub(super) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, Self> {
        result.map_err(|error| Self::new(path, Problem::Io(error)))
    }
}

/// What is wrong with a file of a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file system's answer.
    #[error("could not be read or written")]
    Io(#[source] io::Error),
    /// Not the JSON of this file.
    #[error("is not what this version writes there: take a checkpoint of this version")]
    Json(#[source] serde_json::Error),
    /// A version of the format that is not read.
    #[error("is of format {found}, this version reads {known}: read it with the version that wrote it")]
    Version {
        /// The format of the file.
        found: u64,
        /// The format of this version.
        known: u64,
    },
    /// Another length or other bytes than the manifest says.
    #[error("{what}: it was cut or altered, take another checkpoint")]
    Altered {
        /// What differs.
        what: String,
    },
    /// A file that no manifest may name: it lies elsewhere.
    #[error("names `{file}`, which is no file of a checkpoint")]
    Foreign {
        /// The name.
        file: String,
    },
    /// A file that every checkpoint has.
    #[error("names no `{file}`: this is no checkpoint of a run")]
    Missing {
        /// The file.
        file: String,
    },
    /// Another checkpoint at the same place of a run.
    #[error("is another checkpoint than the one that would be written: remove it, or give another folder")]
    Occupied,
    /// A folder that another run writes to.
    #[error("belongs to another run that goes on: give each its own folder")]
    Taken,
    /// Not the safetensors that are written there.
    #[error("is no safetensors file of a state")]
    Tensors(#[from] CodecError),
}

impl Problem {
    /// What is wrong with a file of JSON.
    pub(super) fn json(error: serde_json::Error) -> Self {
        Self::Json(concise(error))
    }
}
