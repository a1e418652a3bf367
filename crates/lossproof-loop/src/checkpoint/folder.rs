//! The folder that checkpoints lie in, and their names there.

use super::{CheckpointError, Disk};
use crate::Progress;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What the folder of a checkpoint begins with, and one that is not whole.
const WHOLE: &str = "update-";
const PARTIAL: &str = ".partial-";

/// The folder of a checkpoint: names sort as runs go on.
pub(super) fn name(progress: &Progress) -> String {
    let Progress { updates, epoch, micro_batch, .. } = progress;
    format!("{WHOLE}{updates:08}-epoch-{epoch:04}-micro-batch-{micro_batch:06}")
}

/// What it is called until it is whole.
pub(super) fn partial(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{PARTIAL}{name}"))
}

/// The newest checkpoint of a folder, `None` where there is none.
///
/// # Errors
/// When the folder cannot be read.
pub fn newest(folder: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(all(folder)?.pop())
}

/// Removes all checkpoints of a folder but the newest so many, at least one.
///
/// # Errors
/// When one cannot be removed.
pub fn prune(folder: &Path, keep: usize) -> Result<(), CheckpointError> {
    let all = all(folder)?;
    for place in &all[..all.len().saturating_sub(keep.max(1))] {
        CheckpointError::at(place, fs::remove_dir_all(place))?;
    }
    Ok(())
}

/// The checkpoints of a folder, oldest first.
fn all(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut places = Vec::new();
    for entry in CheckpointError::at(folder, fs::read_dir(folder))? {
        let entry = CheckpointError::at(folder, entry)?;
        if entry.file_name().to_string_lossy().starts_with(WHOLE) {
            places.push(entry.path());
        }
    }
    places.sort();
    Ok(places)
}

/// Removes what interrupted writes have left.
pub(super) fn clear_partial(folder: &Path, disk: &dyn Disk) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            disk.remove_folder(&entry.path())?;
        }
    }
    Ok(())
}
