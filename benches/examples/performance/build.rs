//! What is built from nothing, and how long that takes.

use crate::measured::seconds;
use std::{env, error::Error, fmt::Write as _, path::Path, process::Command};

/// What is built, with what cargo is told.
const BUILDS: [(&str, &[&str]); 2] = [
    ("the judge of trainers in other languages", &["--no-default-features"]),
    ("the command with both trainers, for `verify`", &[]),
];

/// The command with and without trainers, each into a folder in which nothing was built. Sources are not fetched, and
/// libtorch is there.
pub(crate) fn section() -> Result<String, Box<dyn Error>> {
    let mut text =
        "\n## A build\n\nFrom nothing, with all sources there: `cargo build -p lossproof-cli`, in the \
                    profile of development.\n\n| what | seconds | relative to the first |\n|---|---|---|\n"
            .to_owned();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut first = None;
    for (what, features) in BUILDS {
        let target = tempfile::tempdir()?;
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&root).args(["build", "--quiet", "--locked", "-p", "lossproof-cli"]).args(features);
        cargo.arg("--target-dir").arg(target.path());
        // A wrapper would hand over what it has compiled before.
        cargo.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
        let (took, status) = seconds(|| cargo.status())?;
        if !status.success() {
            return Err(format!("{what} does not build: {status}").into());
        }
        let first = *first.get_or_insert(took);
        let _ = writeln!(text, "| {what} | {took:.0} | {:.1} |", took / first);
    }
    Ok(text)
}
