//! The operations of a file system that a checkpoint is made of, so that a test can let each of them fail.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Where checkpoints are written.
pub trait Disk {
    /// Makes a folder, and those it lies in; one that is there is left as it is.
    ///
    /// # Errors
    /// When it cannot be made.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Writes a file, whole and synced.
    ///
    /// # Errors
    /// When it cannot be written; part of it may be there then.
    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// When the file system cannot.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a folder another name, at once.
    ///
    /// # Errors
    /// When it cannot be renamed; it has its old name then.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a folder with all that is in it.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Only Unix lets a folder be opened.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
}
