//! The smoke test: can the dynamic loader load libtorch, with everything libtorch needs, on this machine?

use crate::failure::{Failure, IoContext as _};
use std::env;
use std::error::Error as _;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The hidden subcommand that [`loads`] runs in a child process.
pub(crate) const SUBCOMMAND: &str = "dlopen";

/// Loads libtorch's CPU library from `lib` in a child process, so that a library that crashes takes only the
/// child down.
///
/// # Errors
/// The loader's own message, which names the library or symbol that is missing.
pub(crate) fn loads(lib: &Path) -> Result<(), Failure> {
    let library = lib.join(libloading::library_filename("torch_cpu"));
    let xtask = env::current_exe().context("find", Path::new("xtask itself"))?;
    let output = Command::new(&xtask).arg(SUBCOMMAND).arg(&library).output().context("run", &xtask)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(
        format!(
            "{} does not load ({}): {}",
            library.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        "install what the loader misses (glibc 2.28 or later and libstdc++ are expected), or set LIBTORCH to a libtorch 2.11.0 that works here",
    ))
}

/// The child's side of [`loads`]: loads one library and reports on standard error why it cannot.
pub(crate) fn child(library: &Path) -> ExitCode {
    let Err(error) = dlopen(library) else {
        return ExitCode::SUCCESS;
    };
    // The loader's message is the source; the error itself only says that loading failed.
    match error.source() {
        Some(loader) => eprintln!("{loader}"),
        None => eprintln!("{error}"),
    }
    ExitCode::FAILURE
}

#[expect(unsafe_code, reason = "loading a library runs its initialisers, which no compiler can check")]
fn dlopen(library: &Path) -> Result<(), libloading::Error> {
    // SAFETY: the initialisers are libtorch's own, run in a process that does nothing else and exits at once.
    let library = unsafe { libloading::Library::new(library) }?;
    // Unloading would run libtorch's finalisers, which are not what is tested.
    std::mem::forget(library);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_library_does_not_load() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libtorch_cpu.so");
        std::fs::write(&file, "no library").unwrap();
        assert!(dlopen(&file).is_err());
    }
}
