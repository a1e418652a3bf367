//! Builds packages as somebody gets them who has nothing else of ours.

use super::output;
use super::published::{Published, Workspace};
use crate::failure::{Failure, IoContext as _};
use crate::plug_in;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tempfile::TempDir;

/// The command, which has no framework in it without its features.
const JUDGE: &str = "lossproof-cli";

/// Unpacks every package, and builds those without a framework, and the judge without its own trainers.
///
/// # Errors
/// A package that cannot be unpacked or does not build.
pub(super) fn build(root: &Path, workspace: &Workspace) -> Result<(), Failure> {
    let folder = tempfile::tempdir().context("make a folder in", &env::temp_dir())?;
    for published in &workspace.published {
        let archive = workspace.archive(published);
        output(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(folder.path()))?;
    }
    let manifest = folder.path().join("Cargo.toml");
    fs::write(&manifest, manifest_of(&workspace.published)).context("write", &manifest)?;
    let lock = root.join("Cargo.lock");
    fs::copy(&lock, folder.path().join("Cargo.lock")).context("copy", &lock)?;
    let light: Vec<_> =
        workspace.published.iter().filter(|one| one.is_light).map(|one| one.name.as_str()).collect();
    let start = Instant::now();
    built(root, &folder, &light, &[])?;
    built(root, &folder, &[JUDGE], &["--no-default-features"])?;
    eprintln!(
        "package: built from packages in {:.0} s: {}, and {JUDGE} without features",
        start.elapsed().as_secs_f64(),
        light.join(", ")
    );
    Ok(())
}

/// A workspace of the packages that are built, in which each package of ours is the unpacked one.
fn manifest_of(published: &[Published]) -> String {
    let folder = |one: &Published| format!("{}-{}", one.name, one.version);
    let mut members = Vec::new();
    let mut patches = Vec::new();
    for one in published {
        if one.is_light || one.name == JUDGE {
            members.push(format!("{:?}", folder(one)));
        }
        patches.push(format!("{} = {{ path = {:?} }}\n", one.name, folder(one)));
    }
    format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{}]\n\n[patch.crates-io]\n{}",
        members.join(", "),
        patches.concat()
    )
}

fn built(root: &Path, folder: &TempDir, packages: &[&str], features: &[&str]) -> Result<(), Failure> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder.path()).args(["build", "--quiet"]).args(features);
    cargo.arg("--target-dir").arg(plug_in::target(root));
    for package in packages {
        cargo.args(["--package", package]);
    }
    output(&mut cargo).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_the_unpacked_one_and_light_ones_and_the_judge_are_built() {
        let one = |name: &str, is_light| Published {
            name: name.to_owned(),
            version: "1.2.3".to_owned(),
            folder: name.into(),
            roots: Vec::new(),
            is_light,
        };
        assert_eq!(
            manifest_of(&[one("a", true), one("b", false), one(JUDGE, false)]),
            "[workspace]\nresolver = \"3\"\nmembers = [\"a-1.2.3\", \"lossproof-cli-1.2.3\"]\n\n\
             [patch.crates-io]\n\
             a = { path = \"a-1.2.3\" }\nb = { path = \"b-1.2.3\" }\n\
             lossproof-cli = { path = \"lossproof-cli-1.2.3\" }\n"
        );
    }
}
