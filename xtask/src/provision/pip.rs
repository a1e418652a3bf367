//! Fetching the pinned wheels through pip, and telling what went wrong when it cannot.

use super::Recipe;
use super::pins::{self, Pin};
use crate::failure::{Failure, IoContext as _};
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// The platform tags of the pinned wheels, so that pip finds them whatever python runs it.
const PLATFORMS: [&str; 5] = [
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_25_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux_2_12_x86_64",
];

/// Downloads the pinned wheels into `downloads`, with pip's own progress on standard error. pip checks each hash.
///
/// pip's temporary files stay in `scratch`, so that whoever clears that clears them too, and nothing stays in
/// its cache: each wheel is fetched once.
pub(crate) fn download(
    recipe: &Recipe,
    pins: &[Pin],
    scratch: &Path,
    downloads: &Path,
) -> Result<(), Failure> {
    require_pip(recipe)?;
    let requirements = scratch.join("requirements.txt");
    fs::write(&requirements, pins::requirements(pins)).context("write", &requirements)?;
    let temporary = scratch.join("pip");
    fs::create_dir(&temporary).context("create", &temporary)?;

    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--no-cache-dir",
    ])
    .args(["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"])
    .args(PLATFORMS.iter().flat_map(|platform| ["--platform", platform]))
    .args(["--disable-pip-version-check", "--no-input", "--dest"])
    .arg(downloads)
    .arg("--requirement")
    .arg(&requirements)
    .env("TMPDIR", &temporary)
    // Nothing is installed, so a rule that pip must run in a virtual environment has no object here.
    .env("PIP_REQUIRE_VIRTUALENV", "false")
    .stdin(Stdio::null())
    .stdout(io::stderr())
    .stderr(Stdio::piped());
    let mut child = pip.spawn().map_err(|error| python_missing(recipe, &error))?;

    let mut complaints = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            let line = line.context("read from", Path::new("pip"))?;
            eprintln!("{line}");
            complaints.push_str(&line);
            complaints.push('\n');
        }
    }
    let status = child.wait().context("wait for", Path::new("pip"))?;
    if status.success() {
        return Ok(());
    }
    let (reason, help) = diagnose(recipe, &complaints);
    Err(Failure::new(format!("pip could not fetch {} ({status}): {reason}", recipe.name), help))
}

fn require_pip(recipe: &Recipe) -> Result<(), Failure> {
    let output = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| python_missing(recipe, &error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(
        format!("python3 has no pip: {}", String::from_utf8_lossy(&output.stderr).trim()),
        format!("install it (Debian: apt install python3-pip), {}", recipe.instead),
    ))
}

fn python_missing(recipe: &Recipe, error: &io::Error) -> Failure {
    Failure::new(
        format!("cannot run python3, through whose pip {} is fetched: {error}", recipe.name),
        format!("install it (Debian: apt install python3-pip), {}", recipe.instead),
    )
}

/// What pip's complaints amount to, and the remedy.
fn diagnose(recipe: &Recipe, complaints: &str) -> (&'static str, String) {
    let says = |needle: &str| complaints.contains(needle);
    if says("DO NOT MATCH THE HASHES") {
        (
            "a wheel is not the pinned one",
            format!(
                "another file is served under that name: check the package index pip uses, {}",
                recipe.instead
            ),
        )
    } else if says("No space left on device") || says("Disk quota exceeded") {
        ("no space left", format!("free {} in the workspace's file system, then run it again", recipe.disk))
    } else if says("Could not find a version") || says("No matching distribution") {
        (
            "the package index is out of reach or does not have the pinned wheels",
            format!(
                "go online or point pip at an index that has them, then run it again; {}",
                recipe.instead
            ),
        )
    } else {
        ("see pip's own words above", format!("when it is put right, run it again; {}", recipe.instead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_follows_from_what_pip_said() {
        let diagnose = |complaints| diagnose(&crate::libtorch::RECIPE, complaints);
        let reason = |complaints| diagnose(complaints).0;
        assert_eq!(
            reason("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM"),
            "a wheel is not the pinned one"
        );
        let (reason_of_space, remedy) = diagnose("ERROR: [Errno 28] No space left on device");
        assert_eq!(reason_of_space, "no space left");
        assert!(remedy.contains(crate::libtorch::RECIPE.disk), "{remedy}");
        assert!(reason("ERROR: No matching distribution found for torch==2.11.0").contains("out of reach"));
        assert!(reason("Traceback").contains("above"));
    }
}
