//! How a task fails: what happened, and what to do about it.

use std::fmt;
use std::io;
use std::path::Path;

/// A failed task. Displays as an `error:` line and a `help:` line.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    help: String,
}

impl Failure {
    /// `message` says what happened, in lower case and without a final period; `help` what to do now.
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\nhelp: {}", self.message, self.help)
    }
}

/// Turns an I/O error into a [`Failure`] that names the file and a remedy.
pub(crate) trait IoContext<T> {
    /// `action` is a verb such as "write"; `path` is what it was done to.
    fn context(self, action: &str, path: &Path) -> Result<T, Failure>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &str, path: &Path) -> Result<T, Failure> {
        self.map_err(|error| {
            let help = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "libtorch needs about 1.2 GB for a moment, CUDA about 4 GB: free some space, then run it again"
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "make the workspace's folder writable, then run it again"
                }
                _ => "once this is put right, run the same command again: nothing half made is kept",
            };
            Failure::new(format!("cannot {action} {}: {error}", path.display()), help)
        })
    }
}
