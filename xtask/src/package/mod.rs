//! Makes the packages that are published, and looks whether what they need is inside.

mod contents;
mod published;
mod stranger;

use crate::failure::{Failure, IoContext as _};
use crate::product::cargo;
use published::{Published, Workspace};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Packages each crate that is published, from the files as they lie there, and prints a line for it. With
/// `verify` those without a framework are built from their packages alone.
///
/// # Errors
/// A crate that cargo does not package, a file that a build needs and that is outside its package, or a
/// package that does not build.
pub(crate) fn package(root: &Path, verify: bool) -> Result<(), Failure> {
    let workspace = Workspace::read(root)?;
    make(root, &workspace.published)?;
    let mut missing = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    for published in &workspace.published {
        let listed = listed(root, published)?;
        for what in contents::missing(published, &listed) {
            missing.push(format!("{}: {what}", published.name));
        }
        let archive = workspace.archive(published);
        let size = fs::metadata(&archive).context("look at", &archive)?.len();
        eprintln!(
            "package: {} {}: {} files, {} KiB",
            published.name,
            published.version,
            listed.len(),
            kib(size)
        );
        (files, bytes) = (files + listed.len(), bytes + size);
    }
    for what in &missing {
        eprintln!("package: {what}");
    }
    if !missing.is_empty() {
        return Err(Failure::new(
            format!("{} file(s) that a build needs are in no package", missing.len()),
            "put the file, or a link to it, into the crate's folder, and into `include` in its Cargo.toml",
        ));
    }
    eprintln!("package: {} packages, {files} files, {} KiB", workspace.published.len(), kib(bytes));
    if verify { stranger::build(root, &workspace) } else { Ok(()) }
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

/// Has cargo make the packages, without building them.
fn make(root: &Path, published: &[Published]) -> Result<(), Failure> {
    let run = |network: &[&str]| {
        let mut cargo = cargo("package", root);
        // What is looked at is the work as it is, not a release.
        cargo.args(["--no-verify", "--allow-dirty", "--quiet"]).args(network);
        for one in published {
            cargo.args(["--package", &one.name]);
        }
        cargo.output().context("run cargo package in", root)
    };
    let mut output = run(&["--offline"])?;
    if !output.status.success() {
        output = run(&[])?;
    }
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(
        format!("cargo package: {}", String::from_utf8_lossy(&output.stderr).trim()),
        "a crate that is published depends on published crates, each with the `version` that it has in \
         [workspace.dependencies]; one that is not says `publish.workspace = true`",
    ))
}

/// The files of a package, relative to its folder.
fn listed(root: &Path, published: &Published) -> Result<Vec<String>, Failure> {
    let mut cargo = cargo("package", root);
    cargo.args(["--list", "--allow-dirty", "--quiet", "--package", &published.name]);
    Ok(output(&mut cargo)?.lines().map(str::to_owned).collect())
}

/// What a command prints.
///
/// # Errors
/// One that fails, with what it says.
fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().context("run", Path::new(command.get_program()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(
        format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()),
        "make this command work, then run it again",
    ))
}
