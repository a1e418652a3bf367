//! One reader of foreign bytes: what it reads, and what it may take for it.

use std::{error::Error, fs, path::Path};
use tempfile::TempDir;

/// Bytes that any reader may take beside the multiple of its input: buffers of files, paths, an error's text.
pub const FIXED: usize = 64 << 10;

/// A reader, or why the files around its input could not be made.
pub type Made = Result<Reader, Box<dyn Error>>;

/// What reads an input: an error is told with everything that it comes from.
pub type Reading = dyn Fn(&[u8]) -> Result<(), String>;

/// A reader of foreign bytes.
pub struct Reader {
    /// The file that its errors must name, where it is given one.
    pub file: Option<&'static str>,
    /// Bytes that may be allocated at a time for each byte of the input, beside [`FIXED`].
    pub multiple: usize,
    /// Inputs that it accepts, of every form that it takes.
    pub valid: Vec<Vec<u8>>,
    /// Reads an input; an error is told with everything that it comes from.
    pub read: Box<Reading>,
}

impl Reader {
    /// A reader of bytes in memory.
    pub(crate) fn of_bytes(
        multiple: usize,
        valid: Vec<Vec<u8>>,
        read: impl Fn(&[u8]) -> Result<(), String> + 'static,
    ) -> Self {
        Self { file: None, multiple, valid, read: Box::new(read) }
    }

    /// A reader of one file of a folder, in which the others are already.
    pub(crate) fn of_file(
        folder: TempDir,
        file: &'static str,
        multiple: usize,
        valid: Vec<Vec<u8>>,
        read: impl Fn(&Path) -> Result<(), String> + 'static,
    ) -> Self {
        let read = move |bytes: &[u8]| {
            let path = folder.path().join(file);
            put(&path, bytes)?;
            read(&path)
        };
        Self { file: Some(file), multiple, valid, read: Box::new(read) }
    }

    /// Bytes that may be allocated at a time to read an input of so many.
    #[must_use]
    pub fn allowed(&self, input: usize) -> usize {
        self.multiple.saturating_mul(input).saturating_add(FIXED)
    }
}

/// Writes an input where it is looked for. Where that fails nobody refused it, which an error of no words
/// says.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|_| String::new())
}

/// What the name of every reader's folder begins with.
pub(crate) const FOLDER: &str = "lossproof-fuzz-";

/// A folder for the files of a reader: in memory, where the system has such a place.
pub(crate) fn folder() -> Result<TempDir, Box<dyn Error>> {
    let in_memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix(FOLDER);
    Ok(if in_memory.is_dir() { builder.tempdir_in(in_memory)? } else { builder.tempdir()? })
}

/// An error with everything that it comes from, as the command prints it on one line.
pub(crate) fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// What was read is of no further interest; an error is told whole.
pub(crate) fn told<T, E: Error>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| whole(&error))
}
