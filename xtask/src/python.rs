//! The Python package of adapters: its wheel, and its tests in a virtual environment of pinned wheels.
//!
//! Where the environment cannot be made, the tests are counted as skipped, and never as passed.

use crate::failure::{Failure, IoContext as _};
use crate::product::{cargo, exit_code};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The package, from the root.
const PACKAGE: &str = "crates/adapters/python";

/// The environment, from the root.
const ENVIRONMENT: &str = ".python";

/// Builds the wheel and runs the tests of the package against the judge.
pub(crate) fn python(root: &Path) -> Result<ExitCode, Failure> {
    let package = root.join(PACKAGE);
    let tests = count_tests(&package.join("tests"))?;
    let python = match environment(root, &package) {
        Ok(python) => python,
        Err(failure) => {
            eprintln!("{failure}\nskipped: {tests} tests of {PACKAGE}, since no environment could be made");
            return Ok(ExitCode::SUCCESS);
        }
    };
    wheel(root, &package, &python)?;
    let built = cargo("build", root).args(["--bin", "lossproof"]).status();
    if !built.context("run", Path::new("cargo"))?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let mut pytest = Command::new(&python);
    pytest.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]).arg(package.join("tests"));
    pytest.env("LOSSPROOF", root.join("target/debug/lossproof")).env("PYTHONDONTWRITEBYTECODE", "1");
    pytest.status().context("run", &python).map(exit_code)
}

/// The tests that there are: functions whose names begin so. One with parameters counts once.
fn count_tests(folder: &Path) -> Result<usize, Failure> {
    let mut tests = 0;
    for entry in fs::read_dir(folder).context("list", folder)? {
        let path = entry.context("list", folder)?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            let text = fs::read_to_string(&path).context("read", &path)?;
            tests += text.lines().filter(|line| line.starts_with("def test_")).count();
        }
    }
    Ok(tests)
}

/// The interpreter of the environment, which is made where its pins are not those of the package.
fn environment(root: &Path, package: &Path) -> Result<PathBuf, Failure> {
    let environment = root.join(ENVIRONMENT);
    let python = environment.join("bin/python");
    let requirements = package.join("requirements.txt");
    let pins = fs::read(&requirements).context("read", &requirements)?;
    let stamp = environment.join("requirements.txt");
    if fs::read(&stamp).is_ok_and(|made_of| made_of == pins) {
        return Ok(python);
    }
    if environment.exists() {
        fs::remove_dir_all(&environment).context("remove", &environment)?;
    }
    eprintln!("making {ENVIRONMENT}: several gigabytes are downloaded");
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]);
    run(pip.args(["--only-binary=:all:", "--require-hashes", "--requirement"]).arg(&requirements))?;
    fs::write(&stamp, pins).context("write", &stamp)?;
    Ok(python)
}

/// Builds the wheel into dist/ and installs it.
fn wheel(root: &Path, package: &Path, python: &Path) -> Result<(), Failure> {
    let scratch = root.join("target/python");
    if scratch.exists() {
        fs::remove_dir_all(&scratch).context("remove", &scratch)?;
    }
    // Of a copy: setuptools leaves its own folders beside the sources.
    let copy = scratch.join("source/lossproof_adapters");
    fs::create_dir_all(&copy).context("create", &copy)?;
    let sources = package.join("lossproof_adapters");
    for entry in fs::read_dir(&sources).context("list", &sources)? {
        let path = entry.context("list", &sources)?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            fs::copy(&path, copy.join(name)).context("copy", &path)?;
        }
    }
    let manifest = package.join("pyproject.toml");
    fs::copy(&manifest, scratch.join("source/pyproject.toml")).context("copy", &manifest)?;
    let (source, out) = (scratch.join("source"), root.join("dist/python"));
    let pip = |more: &[&str]| {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]).args(more);
        pip
    };
    let build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir"];
    run(pip(&build).arg(&out).arg(&source))?;
    let install =
        ["install", "--no-deps", "--no-index", "--force-reinstall", "lossproof-adapters", "--find-links"];
    run(pip(&install).arg(&out))
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let program = PathBuf::from(command.get_program());
    let status = command.status().context("run", &program)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(
        format!("{} ended with {status}", program.display()),
        "what it needs is Linux x86-64, CPython 3.11 with venv and pip, and a package index",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_of_the_package_are_counted() {
        let folder = crate::workspace_root().join(PACKAGE).join("tests");
        assert!(count_tests(&folder).expect("the folder is there") >= 12);
    }

    #[test]
    fn every_pin_has_a_hash() {
        let file = crate::workspace_root().join(PACKAGE).join("requirements.txt");
        let text = fs::read_to_string(file).expect("it is there");
        let pins: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(pins.iter().all(|pin| pin.contains("==") && pin.contains(" --hash=sha256:")));
        assert!(pins.iter().any(|pin| pin.starts_with("transformers==")));
    }
}
