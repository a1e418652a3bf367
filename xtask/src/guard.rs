//! Holds a released trainer to the laws, from the workspace that it has to itself under `guards/`.
//!
//! Its target folder is its own, too: what it is built of has nothing to do with the product.

use crate::failure::{Failure, IoContext as _};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The folder of the released trainers, one folder each.
const FOLDER: &str = "guards";

/// Runs `cargo test` on the trainer whose folder is the first argument; the others go to `cargo test`.
pub(crate) fn guard(root: &Path, args: &[OsString]) -> Result<ExitCode, Failure> {
    let names = names(root)?;
    let package = package(&names, args.first())?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--package", &package]);
    cargo.arg("--manifest-path").arg(root.join(FOLDER).join("Cargo.toml"));
    cargo.arg("--target-dir").arg(root.join("target").join(FOLDER));
    let status = cargo.args(args.iter().skip(1)).status();
    status.context("run", Path::new(cargo.get_program())).map(crate::product::exit_code)
}

/// The trainers there are, in the order of their names.
fn names(root: &Path) -> Result<Vec<String>, Failure> {
    let folder = root.join(FOLDER);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).context("read", &folder)? {
        let path = entry.context("read", &folder)?.path();
        if path.join("Cargo.toml").is_file() {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// The package of the trainer that is asked for.
fn package(names: &[String], asked: Option<&OsString>) -> Result<String, Failure> {
    let help = || format!("name one of these: {}", names.join(", "));
    let asked = asked.ok_or_else(|| Failure::new("which released trainer is to be guarded?", help()))?;
    let found = names.iter().find(|&name| asked.as_os_str() == name.as_str());
    let unknown =
        || Failure::new(format!("there is no released trainer `{}`", asked.to_string_lossy()), help());
    found.map(|name| format!("lossproof-{name}")).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_of_a_released_trainer_holds_the_package_of_its_name() {
        let root = crate::workspace_root();
        let names = names(&root).expect("the folder is there");
        assert!(!names.is_empty());
        for name in names {
            let manifest = root.join(FOLDER).join(&name).join("Cargo.toml");
            let text = fs::read_to_string(manifest).expect("it was there a moment ago");
            let package = package(std::slice::from_ref(&name), Some(&OsString::from(&name)));
            let package = package.expect("it is listed");
            assert!(text.contains(&format!("name = \"{package}\"")), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let names = ["one".to_owned(), "other".to_owned()];
        for asked in [None, Some(OsString::from("another"))] {
            let failure = package(&names, asked.as_ref()).expect_err("there is no such trainer").to_string();
            assert!(failure.ends_with("help: name one of these: one, other"), "{failure}");
        }
    }
}
