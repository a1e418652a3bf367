//! The one file all models of a verification read their parameters from.

use lossproof_gpt2::ModelShape;
use lossproof_subject::probe_values;
use lossproof_verify::{ParameterFile, WriteError};
use miette::Diagnostic;
use std::{io::ErrorKind, path::PathBuf};

/// Draws the probe parameters of a model into a temporary file that has no name: it is gone when it is
/// closed, however this process ends.
///
/// # Errors
/// When the file cannot be written, such as for want of space.
pub(crate) fn store(shape: ModelShape, seed: u64) -> Result<ParameterFile, StorageError> {
    let parameters = shape.parameters();
    let directory = std::env::temp_dir();
    let refused = |source| {
        let gib = ParameterFile::size(&parameters) as f64 / (1_u64 << 30) as f64;
        StorageError { directory: directory.clone(), gib, source }
    };
    let file = tempfile::tempfile_in(&directory).map_err(|error| refused(error.into()))?;
    ParameterFile::write(file, &parameters, |index| probe_values(&parameters, index, seed)).map_err(refused)
}

/// No place for the parameters.
#[derive(Debug, thiserror::Error)]
#[error("could not write the parameters, {gib:.1} GiB, to a temporary file in {}", directory.display())]
pub(crate) struct StorageError {
    directory: PathBuf,
    gib: f64,
    source: WriteError,
}

impl Diagnostic for StorageError {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        let full = matches!(&self.source, WriteError::Io(error) if error.kind() == ErrorKind::StorageFull);
        let why = if full { "there is no space left" } else { "the models read them from there" };
        Some(Box::new(format!("{why}: set TMPDIR to a directory on a disk with {:.1} GiB free", self.gib)))
    }
}
