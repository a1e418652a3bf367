//! The judge of trainers in other languages: the command without libtorch and dfdx, built in the workspace as somebody
//! does who has just cloned it.

use super::clock::{self, Spent};
use crate::failure::{Failure, IoContext as _};
use std::env;
use std::path::Path;

/// The judge among what is weighed.
pub(super) const NAME: &str = "the judge";

/// The package without its default features.
const PACKAGE: [&str; 3] = ["--package", "lossproof-cli", "--no-default-features"];

/// The crates that are built for it, one in each line.
///
/// # Errors
/// When cargo cannot resolve them.
pub(super) fn tree(root: &Path) -> Result<String, Failure> {
    let mut cargo = clock::cargo(root);
    cargo.arg("tree").args(PACKAGE).args(["--edges", "normal,build", "--prefix", "none", "--locked"]);
    let output = cargo.output().context("run cargo tree in", root)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(
        format!("cargo tree of the judge: {}", String::from_utf8_lossy(&output.stderr).trim()),
        "make `cargo metadata --locked` work in the workspace",
    ))
}

/// Builds it in a folder that nothing was built in.
///
/// # Errors
/// When it does not build.
pub(super) fn build(root: &Path) -> Result<Spent, Failure> {
    let target = tempfile::tempdir().context("make a folder in", &env::temp_dir())?;
    let mut cargo = clock::cargo(root);
    cargo.arg("build").args(PACKAGE).arg("--locked");
    let (status, spent) = clock::build(&mut cargo, target.path()).context("run cargo in", root)?;
    if status.success() {
        return Ok(spent);
    }
    Err(Failure::new(
        format!("cargo build of the judge: {status}"),
        "its own words are above; something that only libtorch or dfdx brings may be used without their features",
    ))
}
