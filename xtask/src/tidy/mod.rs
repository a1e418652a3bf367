//! The rules that neither the compiler nor clippy checks.

mod arrows;
mod circles;
mod manifests;
mod sources;

use crate::api;
use crate::failure::Failure;
use cargo_metadata::{DependencyKind, MetadataCommand};
use std::path::{Path, PathBuf};

/// One package of the workspace, as far as the rules look at it.
struct Package {
    name: String,
    /// Relative to the workspace root.
    manifest: PathBuf,
    dependencies: Vec<(String, DependencyKind)>,
    /// The file that the library and each program starts with, relative to the workspace root.
    roots: Vec<PathBuf>,
}

/// Prints each broken rule, then a line that says what was looked at.
///
/// # Errors
/// Any broken rule, or a workspace that cannot be read.
pub(crate) fn tidy(root: &Path) -> Result<(), Failure> {
    let packages = packages(root)?;
    let sources = sources::Sources::read(root)?;
    let circles = circles::check(&packages, &|path| sources.text(path).map(str::to_owned));
    let findings = [
        arrows::check(&packages),
        circles.findings,
        manifests::check(root, &packages)?,
        sources.check(),
        api::check(root)?,
    ]
    .concat();
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    eprintln!(
        "tidy: {} packages, {}, {} arrows between modules",
        packages.len(),
        sources.summary(),
        circles.arrows
    );
    if findings.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!("{} rule(s) broken", findings.len()),
        "each line above names the place and the rule; the rules are in xtask/src/tidy/",
    ))
}

fn packages(root: &Path) -> Result<Vec<Package>, Failure> {
    let metadata =
        MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec().map_err(|error| {
            Failure::new(
                format!("cargo metadata: {error}"),
                "make `cargo metadata --no-deps` work, then run it again",
            )
        })?;
    Ok(metadata.packages.into_iter().map(|package| relative(root, package)).collect())
}

/// What the rules look at of a package that cargo describes.
fn relative(root: &Path, package: cargo_metadata::Package) -> Package {
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
    let mut roots = Vec::new();
    for target in &package.targets {
        if target.is_lib() || target.is_proc_macro() || target.is_bin() {
            roots.push(relative(target.src_path.as_std_path()));
        }
    }
    Package {
        name: package.name.to_string(),
        manifest: relative(package.manifest_path.as_std_path()),
        dependencies: package.dependencies.into_iter().map(|on| (on.name, on.kind)).collect(),
        roots,
    }
}
