//! Cargo's part: where dependencies' sources lie, and the programs with CUDA.

use super::toolkit::LIBTORCH;
use super::{ComputeCap, stand_ins};
use crate::failure::{Failure, IoContext as _};
use crate::product;
use cargo_metadata::{CargoOpt, Message, MetadataCommand};
use std::env;
use std::ffi::OsString;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Turns CUDA on in every package that has programs.
const FEATURES: &str = "lossproof-cli/cuda,lossproof-tests/cuda";

/// Kept from the build without CUDA, which would otherwise be invalidated.
const TARGET: &str = "target/cuda";

/// Folders of the packages whose sources the build looks into.
pub(super) struct Sources {
    pub(super) cudarc: PathBuf,
    pub(super) dfdx: PathBuf,
}

/// What runs on the machine with a GPU.
pub(super) struct Programs {
    /// The command.
    pub(super) lossproof: PathBuf,
    /// Every law as a test of its own.
    pub(super) conformance: PathBuf,
}

impl Programs {
    pub(super) fn all(&self) -> [&Path; 2] {
        [&self.lossproof, &self.conformance]
    }
}

/// Finds the sources of the dependencies that CUDA brings in.
///
/// # Errors
/// When `cargo metadata` fails or does not know them.
pub(super) fn sources(root: &Path) -> Result<Sources, Failure> {
    let failure = |what: String| {
        Failure::new(format!("cargo metadata: {what}"), "make `cargo metadata` work, then run it again")
    };
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .features(CargoOpt::SomeFeatures(FEATURES.split(',').map(str::to_owned).collect()))
        .exec()
        .map_err(|error| failure(error.to_string()))?;
    let folder = |name: &str| {
        let package = metadata.packages.iter().find(|package| package.name == name);
        let folder = package.and_then(|package| package.manifest_path.parent());
        folder
            .map(|folder| folder.as_std_path().to_owned())
            .ok_or_else(|| failure(format!("nothing depends on {name}")))
    };
    Ok(Sources { cudarc: folder("cudarc")?, dfdx: folder("dfdx")? })
}

/// Builds the programs against the toolkit.
///
/// # Errors
/// When cargo fails, or does not say where a program is.
pub(super) fn build(root: &Path, toolkit: &Path, compute_cap: ComputeCap) -> Result<Programs, Failure> {
    eprintln!("cuda: building for compute capability {compute_cap} and later");
    let mut cargo = product::cargo("build", root);
    cargo
        .args(["--package", "lossproof-cli", "--bin", "lossproof"])
        .args(["--package", "lossproof-tests", "--test", "conformance"])
        .args(["--features", FEATURES, "--message-format", "json-render-diagnostics"])
        .arg("--target-dir")
        .arg(root.join(TARGET))
        .args(["--config", "profile.dev.debug=false", "--config", "profile.dev.strip=\"debuginfo\""])
        .env("PATH", path(toolkit)?)
        .env("CUDA_PATH", toolkit)
        .env("CUDA_COMPUTE_CAP", compute_cap.number().to_string())
        .env("LIBTORCH", toolkit.join(LIBTORCH))
        .env_remove("LIBTORCH_USE_PYTORCH")
        .env_remove("LIBTORCH_INCLUDE")
        .env_remove("LIBTORCH_LIB")
        .stdout(Stdio::piped());
    let name = Path::new("cargo build");
    let mut child = cargo.spawn().context("run", name)?;
    let messages = child.stdout.take().map(BufReader::new);
    let executables = messages.map_or_else(|| Ok(Vec::new()), executables)?;
    let status = child.wait().context("wait for", name)?;
    if !status.success() {
        return Err(Failure::new(
            format!("cargo build: {status}"),
            "its own words are above; when it is put right, run it again",
        ));
    }
    let program = |name: &str| {
        let found = executables.iter().find(|(target, _)| target == name);
        found.map(|(_, path)| path.clone()).ok_or_else(|| {
            Failure::new(
                format!("cargo built no program called {name}"),
                "the package's manifest has to name it",
            )
        })
    };
    Ok(Programs { lossproof: program("lossproof")?, conformance: program("conformance")? })
}

/// The stand-ins and the toolkit's programs before everything else.
fn path(toolkit: &Path) -> Result<OsString, Failure> {
    let ours = [toolkit.join(stand_ins::PROGRAMS), toolkit.join("bin")];
    let others = env::var_os("PATH").unwrap_or_default();
    env::join_paths(ours.into_iter().chain(env::split_paths(&others))).map_err(|error| {
        Failure::new(
            format!("{} cannot stand in PATH: {error}", toolkit.display()),
            "move the workspace to a path without that character",
        )
    })
}

/// The programs that cargo's messages name, with the names of their targets.
fn executables(messages: impl Read) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut executables = Vec::new();
    for message in Message::parse_stream(BufReader::new(messages)) {
        if let Message::CompilerArtifact(artifact) = message.context("read from", Path::new("cargo build"))?
            && let Some(path) = artifact.executable
        {
            executables.push((artifact.target.name, path.into_std_path_buf()));
        }
    }
    Ok(executables)
}

/// What the programs were built from: a line each for the commit, the compiler, the GPUs and libtorch.
///
/// # Errors
/// When rustc cannot be run.
pub(super) fn built_from(root: &Path, compute_cap: ComputeCap) -> Result<String, Failure> {
    let rustc = Command::new("rustc").arg("--version").output().context("run", Path::new("rustc"))?;
    let rustc = String::from_utf8_lossy(&rustc.stdout).trim().to_owned();
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(root)
        .output();
    let commit = git.ok().filter(|output| output.status.success()).map_or_else(
        || "not under git".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    Ok(format!(
        "commit {commit}\n{rustc}\ncompute capability {compute_cap} and later\nlibtorch {} with CUDA 13.0\n",
        crate::libtorch::VERSION
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(name: &str, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"path+file:///w#p@0.1.0","manifest_path":"/w/Cargo.toml",
            "target":{{"kind":["bin"],"crate_types":["bin"],"name":"{name}","src_path":"/w/src/main.rs",
            "edition":"2024","doc":true,"doctest":false,"test":true}},"profile":{{"opt_level":"3","debuginfo":0,
            "debug_assertions":true,"overflow_checks":true,"test":false}},"features":[],"filenames":[],
            "executable":{executable},"fresh":true}}"#
        )
        .replace('\n', " ")
    }

    #[test]
    fn programs_are_read_from_cargos_messages() {
        let messages = [
            artifact("dfdx", "null"),
            artifact("lossproof", r#""/w/target/cuda/debug/lossproof""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let found = executables(messages.as_bytes()).unwrap();
        assert_eq!(found, [("lossproof".to_owned(), "/w/target/cuda/debug/lossproof".into())]);
    }

    #[test]
    fn the_stand_ins_come_before_the_toolkit_and_the_system() {
        let path = path(Path::new("/toolkit")).unwrap();
        let first: Vec<_> = env::split_paths(&path).take(2).collect();
        assert_eq!(first, [Path::new("/toolkit/stand-ins"), Path::new("/toolkit/bin")]);
    }
}
