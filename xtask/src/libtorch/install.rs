//! Making `.libtorch/` whole or not at all.
//!
//! Everything is built in a temporary folder beside it, under a lock, and renamed when it is finished and tested. So a
//! temporary folder seen under the lock was left by a setup that was killed, and is removed.

use super::pins::{self, PARTS, Pin, VERSION};
use super::{pip, smoke, wheels};
use crate::failure::{Failure, IoContext as _};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The provisioned folder, under the workspace root. `.cargo/config.toml` points `LIBTORCH` at it.
pub(crate) const FOLDER: &str = ".libtorch";

const LOCK: &str = ".libtorch.lock";
const TEMPORARY: &str = ".libtorch.tmp-";
const STAMP: &str = "provisioned-from";

/// Provisions libtorch under `root`, unless the pinned one is there already.
pub(crate) fn provision(root: &Path) -> Result<(), Failure> {
    let pins = pins::pins()?;
    let stamp = pins::stamp(&pins);
    if is_whole(&root.join(FOLDER), &stamp) {
        return Ok(());
    }
    require_platform()?;

    let _lock = lock(&root.join(LOCK))?;
    if is_whole(&root.join(FOLDER), &stamp) {
        return Ok(());
    }
    remove_stale(root)?;
    let scratch = root.join(format!("{TEMPORARY}{}", std::process::id()));
    fs::create_dir(&scratch).context("create", &scratch)?;
    let result = build(root, &scratch, &pins, &stamp);
    let removed = remove(&scratch);
    result.and(removed)
}

/// Whether `libtorch` was made from the pins in `stamp` and still has every part.
fn is_whole(libtorch: &Path, stamp: &str) -> bool {
    fs::read_to_string(libtorch.join(STAMP)).is_ok_and(|found| found == stamp)
        && PARTS.iter().all(|part| libtorch.join(part.target).exists())
}

fn require_platform() -> Result<(), Failure> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Ok(());
    }
    Err(Failure::new(
        "the pinned libtorch wheels are for Linux on x86_64 with glibc only",
        format!("set LIBTORCH to a libtorch {VERSION} made for this platform"),
    ))
}

/// Waits for any other setup of this workspace. The lock goes with the returned file, even when the process is killed.
fn lock(path: &Path) -> Result<File, Failure> {
    let file = File::options().create(true).append(true).open(path).context("open", path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("libtorch: another setup is at work, waiting for it");
            file.lock().context("lock", path)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("lock", path),
    }
    Ok(file)
}

fn remove_stale(root: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(root).context("list", root)? {
        let entry = entry.context("list", root)?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
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

fn build(root: &Path, scratch: &Path, pins: &[Pin], stamp: &str) -> Result<(), Failure> {
    let start = Instant::now();
    let downloads = scratch.join("wheels");
    fs::create_dir(&downloads).context("create", &downloads)?;
    eprintln!("libtorch {VERSION}: fetching {} wheels, 544 MB, through pip", pins.len());
    pip::download(scratch, &downloads)?;

    let libtorch = scratch.join("libtorch");
    for pin in pins {
        eprintln!("libtorch {VERSION}: checking and unpacking {} {}", pin.name, pin.version);
        let wheel = wheels::verified(pin, &downloads)?;
        wheels::unpack(pin, &wheel, &libtorch)?;
    }
    complete(&libtorch, stamp)?;
    eprintln!("libtorch {VERSION}: loading it");
    smoke::loads(&libtorch.join("lib"))?;
    flush(&libtorch)?;

    let folder = root.join(FOLDER);
    replace(&folder, &libtorch, &scratch.join("replaced"))?;
    eprintln!("libtorch {VERSION}: ready in {} ({:.0?})", folder.display(), start.elapsed());
    Ok(())
}

/// Adds what the wheels lack.
fn complete(libtorch: &Path, stamp: &str) -> Result<(), Failure> {
    for (name, text) in [
        // The wheel's own libtorch.so would pull in CUDA; torch-sys asks the linker for this name.
        ("lib/libtorch.so", "INPUT(-ltorch_cpu)\n"),
        // Without this file torch-sys checks no version.
        ("build-version", &format!("{VERSION}\n")),
        (STAMP, stamp),
    ] {
        let path = libtorch.join(name);
        fs::write(&path, text).context("write", &path)?;
    }
    Ok(())
}

/// Has the file system write everything out, so that the rename never becomes durable before what it names. One call for
/// the whole file system is far quicker than one per header.
fn flush(libtorch: &Path) -> Result<(), Failure> {
    let status = Command::new("sync").arg("-f").arg(libtorch).status().context("run sync on", libtorch)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(
        format!("sync -f {}: {status}", libtorch.display()),
        "the disk did not take the files: check its health and its free space, then run it again",
    ))
}

/// Puts `new` at `folder`. What was there goes to `old`, and comes back if the rename fails.
fn replace(folder: &Path, new: &Path, old: &Path) -> Result<(), Failure> {
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

    #[test]
    fn a_folder_counts_only_with_the_right_stamp_and_every_part() {
        let root = tempfile::tempdir().unwrap();
        let libtorch = root.path();
        for part in &PARTS {
            let path = libtorch.join(part.target);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if part.target.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::write(path, "").unwrap();
            }
        }
        assert!(!is_whole(libtorch, "pins"), "no stamp");
        complete(libtorch, "pins").unwrap();
        assert!(is_whole(libtorch, "pins"));
        assert!(!is_whole(libtorch, "other pins"));
        fs::remove_file(libtorch.join("lib/libc10.so")).unwrap();
        assert!(!is_whole(libtorch, "pins"), "libc10.so is gone");
    }

    #[test]
    fn leftovers_of_a_killed_setup_are_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        for folder in [".libtorch.tmp-1", ".libtorch.tmp-22", FOLDER, "crates"] {
            folder_with(&root.path().join(folder), "file");
        }
        remove_stale(root.path()).unwrap();
        let left = |folder| root.path().join(folder).exists();
        assert!(!left(".libtorch.tmp-1") && !left(".libtorch.tmp-22"));
        assert!(left(FOLDER) && left("crates"));
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
        let path = root.path().join(LOCK);
        let held = lock(&path).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = path.clone();
        let second = std::thread::spawn(move || {
            let _lock = lock(&waiting).unwrap();
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(std::time::Duration::from_millis(100)).is_err(), "it did not wait");
        drop(held);
        second.join().unwrap();
        assert!(receiver.recv().is_ok());
    }
}
