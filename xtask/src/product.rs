//! Tasks that hand over to cargo and return its exit code.
//!
//! They select packages as a plain `cargo run` and `cargo test` in the workspace root do: by its
//! `default-members`. Cargo unifies features over the selected packages, so any other selection (`--package`,
//! `--workspace`) would compile dfdx and everything above it a second time.

use crate::failure::{Failure, IoContext as _};
use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

/// Runs `lossproof verify` with `args`, in the caller's folder.
pub(crate) fn verify(root: &Path, args: &[OsString]) -> Result<ExitCode, Failure> {
    let binary = ["--bin", "lossproof"];
    // Built first and aloud: the first build takes minutes, and only `run` must be quiet for the report to stand alone.
    let built = run(cargo("build", root).args(binary))?;
    if !built.success() {
        return Ok(exit_code(built));
    }
    run(cargo("run", root).arg("--quiet").args(binary).args(["--", "verify"]).args(args)).map(exit_code)
}

/// Runs the whole test suite, or with `args` (which go to `cargo test`) what they select of the product's.
///
/// The whole suite takes a feature where there is one: a suite of its own for it would be a second build.
pub(crate) fn test(root: &Path, args: &[OsString], feature: Option<&str>) -> Result<ExitCode, Failure> {
    let mut tests = cargo("test", root);
    if let Some(feature) = feature {
        tests.args(["--features", feature]);
    }
    if args.is_empty() {
        // Of a suite of many minutes all failures are told at once.
        tests.arg("--no-fail-fast");
    }
    let products = run(tests.args(args))?;
    if !products.success() || !args.is_empty() {
        return Ok(exit_code(products));
    }
    run(cargo("test", root).args(["--package", "xtask"])).map(exit_code)
}

/// A cargo command on the workspace's manifest.
pub(crate) fn cargo(command: &str, root: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(command).arg("--manifest-path").arg(root.join("Cargo.toml"));
    cargo
}

fn run(command: &mut Command) -> Result<ExitStatus, Failure> {
    command.status().context("run", Path::new(command.get_program()))
}

/// The child's exit code; a child ended by a signal has none and counts as failed.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
