//! The rules that neither the compiler nor clippy checks.

mod arrows;
mod manifests;
mod sources;

use crate::failure::Failure;
use cargo_metadata::{DependencyKind, MetadataCommand};
use std::path::{Path, PathBuf};

/// One package of the workspace, as far as the rules look at it.
struct Package {
    name: String,
    /// Relative to the workspace root.
    manifest: PathBuf,
    dependencies: Vec<(String, DependencyKind)>,
}

/// Prints each broken rule, then a line that says what was looked at.
///
/// # Errors
/// Any broken rule, or a workspace that cannot be read.
pub(crate) fn tidy(root: &Path) -> Result<(), Failure> {
    let packages = packages(root)?;
    let sources = sources::Sources::read(root)?;
    let findings = [arrows::check(&packages), manifests::check(root, &packages)?, sources.check()].concat();
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    eprintln!("tidy: {} packages, {}", packages.len(), sources.summary());
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
    let package = |package: cargo_metadata::Package| Package {
        name: package.name.to_string(),
        manifest: package.manifest_path.strip_prefix(root).unwrap_or(&package.manifest_path).into(),
        dependencies: package.dependencies.into_iter().map(|on| (on.name, on.kind)).collect(),
    };
    Ok(metadata.packages.into_iter().map(package).collect())
}
