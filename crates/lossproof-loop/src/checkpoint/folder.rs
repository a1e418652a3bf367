//! The folder that checkpoints lie in, and their names there.

use super::{CheckpointError, Disk, Problem};
use crate::Progress;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// What the folder of a checkpoint begins with, and one that is not whole.
const WHOLE: &str = "update-";
const PARTIAL: &str = ".partial-";

/// The file that a run holds while it writes to the folder.
const LOCK: &str = ".lock";

/// The folder of a checkpoint: names sort as runs go on.
pub(super) fn name(progress: &Progress) -> String {
    let Progress { updates, epoch, micro_batch, .. } = progress;
    format!("{WHOLE}{updates:08}-epoch-{epoch:04}-micro-batch-{micro_batch:06}")
}

/// Updates, epoch and micro-batch in the name of a checkpoint; `None` for any other name.
fn parse(name: &str) -> Option<[u64; 3]> {
    let (updates, rest) = name.strip_prefix(WHOLE)?.split_once("-epoch-")?;
    let (epoch, micro_batch) = rest.split_once("-micro-batch-")?;
    let number =
        |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
    Some([number(updates)?, number(epoch)?, number(micro_batch)?])
}

/// What it is called until it is whole.
pub(super) fn partial(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{PARTIAL}{name}"))
}

/// The newest checkpoint of a folder, the one that a run had come furthest with; `None` where there is none.
///
/// # Errors
/// When the folder cannot be read.
pub fn newest(folder: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(all(folder)?.pop())
}

/// Removes all checkpoints of a folder but the newest so many, at least one. What has another name than a
/// checkpoint stays.
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

/// Takes a folder for one run: nobody else can while the answer lives, and a run that was killed has let go of it.
///
/// # Errors
/// When it cannot be made, or another run has it.
pub fn lock(folder: &Path) -> Result<File, CheckpointError> {
    CheckpointError::at(folder, fs::create_dir_all(folder))?;
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = CheckpointError::at(&path, file)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CheckpointError::new(folder, Problem::Taken)),
        Err(TryLockError::Error(error)) => Err(CheckpointError::new(&path, Problem::Io(error))),
    }
}

/// The checkpoints of a folder, oldest first.
fn all(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut places = Vec::new();
    for entry in CheckpointError::at(folder, fs::read_dir(folder))? {
        let path = CheckpointError::at(folder, entry)?.path();
        let place = path.file_name().and_then(|name| parse(name.to_str()?));
        if let Some(place) = place.filter(|_| path.is_dir()) {
            places.push((place, path));
        }
    }
    places.sort();
    Ok(places.into_iter().map(|(_, path)| path).collect())
}

/// Removes what interrupted writes have left.
pub(super) fn clear_partial(folder: &Path, disk: &dyn Disk) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let left = name.and_then(|name| name.strip_prefix(PARTIAL)).and_then(parse);
        if left.is_some() && path.is_dir() {
            disk.remove_folder(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_checkpoints_are_read_and_no_others() {
        let progress = Progress { updates: 7, epoch: 1, micro_batch: 12, ..Progress::default() };
        assert_eq!(parse(&name(&progress)), Some([7, 1, 12]));
        for other in ["update-notes", "update-0-my-results", "update-1-epoch-2-micro-batch-x", "model"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
