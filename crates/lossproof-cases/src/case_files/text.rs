//! The text of a file that somebody else put there: a regular one, of a size that a person or a draft may
//! have given it. A pipe would be waited for without end, and a device read until memory is full.

use std::{
    fs::{self, File, FileType},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The most bytes that are read of one file.
pub const LARGEST: u64 = 16 << 20;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A folder, a pipe, a device, or a link to one.
    #[error("{} is {kind} and no regular file: put one in its place, or remove it", path.display())]
    Irregular {
        /// What should be a file.
        path: PathBuf,
        /// What it is, in words.
        kind: &'static str,
    },
    /// A file of more bytes than are read of it.
    #[error("{} holds more than {} MiB: make it smaller, or remove it", path.display(), largest >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that are read.
        largest: u64,
    },
    /// The system does not let it be read, or it is no UTF-8.
    #[error("could not read {}: make it readable, or remove it", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ReadError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads a regular file of text of at most [`LARGEST`] bytes, or one that a link leads to.
///
/// # Errors
/// What it is instead, or what the system said.
pub fn read_text(path: &Path) -> Result<String, ReadError> {
    String::from_utf8(read_bytes(path, LARGEST)?).map_err(|error| ReadError::System {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()),
    })
}

/// Reads a regular file of at most so many bytes, or one that a link leads to.
///
/// # Errors
/// What it is instead, or what the system said.
pub fn read_bytes(path: &Path, largest: u64) -> Result<Vec<u8>, ReadError> {
    let system = |source| ReadError::System { path: path.to_owned(), source };
    // Asked before it is opened: to open a pipe is to wait for whoever writes to it.
    let found = fs::metadata(path).map_err(system)?;
    if !found.is_file() {
        return Err(ReadError::Irregular { path: path.to_owned(), kind: kind(found.file_type()) });
    }
    let too_large = || ReadError::TooLarge { path: path.to_owned(), largest };
    if found.len() > largest {
        return Err(too_large());
    }
    // What is said to be small may grow, and what the system makes up as it is read is said to be empty.
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(largest + 1).read_to_end(&mut bytes));
    match read {
        _ if bytes.len() as u64 > largest => Err(too_large()),
        Ok(_) => Ok(bytes),
        Err(source) => Err(system(source)),
    }
}

/// What is no regular file, in words.
fn kind(of: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if of.is_fifo() {
            return "a pipe";
        }
        if of.is_socket() {
            return "a socket";
        }
        if of.is_char_device() || of.is_block_device() {
            return "a device";
        }
    }
    if of.is_dir() { "a folder" } else { "something else" }
}
