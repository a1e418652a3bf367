//! Ranks as processes: what they need of the machine, the build that has them, and their tests.
//!
//! Where MPI is lacking, the tests are counted as skipped, and never as passed.

use crate::failure::{Failure, IoContext as _};
use crate::product::{cargo, exit_code};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The feature of the command that has them.
const FEATURE: &str = "lossproof-cli/mpi";

/// Their tests, from the root: the suite and its file.
const SUITE: &str = "processes";
const TESTS: &str = "crates/lossproof-cli/tests/processes.rs";

/// Where systems have libclang, beside what `LIBCLANG_PATH` names: folders, of which the last part is the beginning of
/// a name.
const LIBRARIES: [&str; 4] = ["/usr/lib/llvm-", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/lib"];

/// What is done where something is lacking.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only install what is lacking by apt-get, where this user may.
    #[arg(long)]
    install: bool,
}

/// Builds the command with MPI and runs its tests on one to four processes.
pub(crate) fn mpi(root: &Path, options: &Options) -> Result<ExitCode, Failure> {
    if options.install {
        install(&lacking());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(feature) = feature(root)? else { return Ok(ExitCode::SUCCESS) };
    // The packages are those of a plain `cargo build`, so that nothing below them is compiled again.
    let built = cargo("build", root).args(["--features", feature, "--bin", "lossproof"]).status();
    if !built.context("run", Path::new("cargo"))?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let tested = cargo("test", root).args(["--features", feature, "--test", SUITE]).status();
    tested.context("run", Path::new("cargo")).map(exit_code)
}

/// The feature of the command that has ranks as processes, where all is there that they need. Elsewhere says what is
/// lacking, and how many tests are skipped.
pub(crate) fn feature(root: &Path) -> Result<Option<&'static str>, Failure> {
    let lacking = lacking();
    if lacking.is_empty() {
        return Ok(Some(FEATURE));
    }
    let tests = count_tests(&root.join(TESTS))?;
    let packages: Vec<&str> = lacking.iter().map(|part| part.package).collect();
    eprintln!(
        "ranks as processes need {}, which on Debian are in {}: `apt-get install {}`\n\
         skipped: {tests} tests of {TESTS}, since that is not installed",
        lacking.iter().map(|part| part.what).collect::<Vec<_>>().join(", "),
        packages.join(", "),
        packages.join(" "),
    );
    Ok(None)
}

/// Tries to install the packages of these parts. Whether it has, is seen by what is lacking then.
fn install(parts: &[Part]) {
    if parts.is_empty() {
        return;
    }
    let packages = parts.iter().map(|part| part.package);
    let update = ["update", "-qq"].map(str::to_owned);
    let install = ["install", "-y", "-qq", "--no-install-recommends"].map(str::to_owned);
    for arguments in [update.to_vec(), install.into_iter().chain(packages.map(str::to_owned)).collect()] {
        let mut command = Command::new("apt-get");
        command.args(&arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            eprintln!("`apt-get {}` did not succeed", arguments.join(" "));
            return;
        }
    }
}

/// Something that ranks as processes need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    what: &'static str,
    /// The package of Debian that has it.
    package: &'static str,
}

/// What is not here.
fn lacking() -> Vec<Part> {
    let parts = [
        (Part { what: "mpicc", package: "libopenmpi-dev" }, on_path("mpicc")),
        (Part { what: "mpirun", package: "openmpi-bin" }, on_path("mpirun")),
        (Part { what: "libclang", package: "libclang-dev" }, has_libclang()),
    ];
    parts.into_iter().filter(|(_, found)| !found).map(|(part, _)| part).collect()
}

fn on_path(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

fn has_libclang() -> bool {
    let named = env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    named.into_iter().chain(LIBRARIES.into_iter().flat_map(beginning_so)).any(|folder| has_library(&folder))
}

/// The folders whose paths begin so, and their `lib`.
fn beginning_so(path: &str) -> Vec<PathBuf> {
    let path = Path::new(path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let begins = |path: &PathBuf| {
        path.file_name().is_some_and(|own| own.to_string_lossy().starts_with(&*name.to_string_lossy()))
    };
    let folders = entries.flatten().map(|entry| entry.path()).filter(begins);
    folders.flat_map(|folder| [folder.join("lib"), folder]).collect()
}

fn has_library(folder: &Path) -> bool {
    let is_it = |name: &str| name.starts_with("libclang") && name.contains(".so") && !name.contains("cpp");
    fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().any(|entry| is_it(&entry.file_name().to_string_lossy())))
}

/// The tests that a file has.
fn count_tests(file: &Path) -> Result<usize, Failure> {
    let text = fs::read_to_string(file).context("read", file)?;
    Ok(text.lines().filter(|line| line.trim() == "#[test]").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_that_are_skipped_are_counted() {
        let file = crate::workspace_root().join(TESTS);
        assert!(count_tests(&file).expect("the file is there") >= 8);
    }

    #[test]
    fn folders_are_found_by_the_beginning_of_their_path() {
        let found = beginning_so("/usr/li");
        assert!(found.contains(&PathBuf::from("/usr/lib")), "{found:?}");
        assert!(beginning_so("/no such folder/x").is_empty());
    }
}
