//! A stranger's package: empty, outside the workspace, with one dependency.

use super::Case;
use super::clock::{self, Spent};
use crate::failure::{Failure, IoContext as _};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// What the package is called.
pub(super) const NAME: &str = "consumer";

/// The package, in a temporary folder that goes when it does.
pub(super) struct Consumer {
    folder: TempDir,
}

impl Consumer {
    /// Writes the package, with the versions of dependencies that the workspace at `root` has.
    ///
    /// # Errors
    /// When there is no such package of ours, or a file cannot be written.
    pub(super) fn new(root: &Path, case: &Case) -> Result<Self, Failure> {
        let ours = root.join("crates").join(case.package);
        if !ours.join("Cargo.toml").is_file() {
            return Err(Failure::new(
                format!("cannot weigh {}: there is no package at {}", case.package, ours.display()),
                "name the packages that there are in CASES in xtask/src/weigh/mod.rs",
            ));
        }
        let folder = tempfile::tempdir().context("make a folder in", &env::temp_dir())?;
        let consumer = Self { folder };
        consumer.write("Cargo.toml", &manifest(case, &ours))?;
        consumer.write("src/lib.rs", "")?;
        consumer.write(case.file, &format!("use {} as _;\n", case.package.replace('-', "_")))?;
        let lock = root.join("Cargo.lock");
        fs::copy(&lock, consumer.path().join("Cargo.lock")).context("copy", &lock)?;
        Ok(consumer)
    }

    /// The crates that are built for this machine, one in each line. It fetches those that are not here yet.
    ///
    /// # Errors
    /// When cargo cannot resolve or fetch them.
    pub(super) fn tree(&self) -> Result<String, Failure> {
        // Cargo ignores the dev-dependencies of dependencies: these are the consumer's.
        let tree = ["tree", "--edges", "normal,build,dev", "--prefix", "none"];
        let run = |network: &[&str]| {
            self.cargo().args(tree).args(network).output().context("run cargo tree in", self.path())
        };
        let mut output = run(&["--offline"])?;
        if !output.status.success() {
            output = run(&[])?;
        }
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Failure::new(
            format!(
                "cargo tree, in a package with one dependency of ours: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            "make `cargo metadata` work in the workspace, or connect to the network once for the sources",
        ))
    }

    /// Builds the package in this target folder, which is emptied before and left as it is afterwards.
    ///
    /// # Errors
    /// When it does not build.
    pub(super) fn build(&self, case: &Case, target: &Path) -> Result<Spent, Failure> {
        if target.exists() {
            fs::remove_dir_all(target).context("empty", target)?;
        }
        let mut cargo = self.cargo();
        cargo.args(case.build).arg("--offline");
        let (status, spent) = clock::build(&mut cargo, target).context("run cargo in", self.path())?;
        if status.success() {
            return Ok(spent);
        }
        Err(Failure::new(
            format!("cargo {}, in a package that depends on {} alone: {status}", case.build[0], case.package),
            "its own words are above; it may need a feature that another package of the workspace turns on",
        ))
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).context("create", folder)?;
        }
        fs::write(&path, text).context("write", &path)
    }

    /// Cargo in the package's folder, where the workspace's configuration does not reach.
    fn cargo(&self) -> Command {
        clock::cargo(self.path())
    }
}

/// The manifest of a package that has what lies in `ours` as its only dependency. It is a workspace of its
/// own, so that profiles are cargo's.
fn manifest(case: &Case, ours: &Path) -> String {
    format!(
        "[workspace]\n\n[package]\nname = \"{NAME}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [{}]\n{} = {{ path = {:?} }}\n",
        case.table,
        case.package,
        ours.to_string_lossy()
    )
}

#[cfg(test)]
mod tests {
    use super::super::CASES;
    use super::*;

    #[test]
    fn a_package_of_ours_is_the_only_dependency() {
        let root = tempfile::tempdir().unwrap();
        let case = &CASES[1];
        let ours = root.path().join("crates").join(case.package);
        fs::create_dir_all(&ours).unwrap();
        fs::write(ours.join("Cargo.toml"), "").unwrap();
        fs::write(root.path().join("Cargo.lock"), "version = 4\n").unwrap();
        let consumer = Consumer::new(root.path(), case).unwrap();
        let manifest: toml::Table =
            fs::read_to_string(consumer.path().join("Cargo.toml")).unwrap().parse().unwrap();
        assert_eq!(manifest["dev-dependencies"][case.package]["path"].as_str(), ours.to_str());
        let test = fs::read_to_string(consumer.path().join("tests/conformance.rs")).unwrap();
        assert_eq!(test, "use lossproof as _;\n");
        assert!(consumer.path().join("Cargo.lock").is_file());
    }

    #[test]
    fn a_package_that_is_not_there_is_named() {
        let root = tempfile::tempdir().unwrap();
        let failure = Consumer::new(root.path(), &CASES[0]).err().unwrap().to_string();
        assert!(failure.contains("cannot weigh lossproof-subject"), "{failure}");
    }
}
