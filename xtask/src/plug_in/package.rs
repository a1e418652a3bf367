//! The package of somebody who follows the page: the trainer alone at first, outside the workspace.

use super::steps::{Action, PLACE};
use crate::failure::{Failure, IoContext as _};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The folder of `crates/` as the page has it, beside the package.
const BESIDE: &str = "../lossproof/crates";

/// The same as the example has it, inside the clone.
const FROM_EXAMPLE: &str = "../../crates";

/// Where the manifest goes on that the page adds.
const ADDED: &str = "[dev-dependencies]";

/// Files that the page leads to, and that the example has too.
const RESULTS: [&str; 3] = ["Cargo.toml", "tests/conformance.rs", "lossproof.toml"];

/// The package, in a temporary folder that goes when it does.
pub(super) struct Package {
    folder: TempDir,
    /// The crates of this clone.
    crates: String,
}

impl Package {
    /// The trainer of the example, with a manifest that knows nothing of lossproof.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub(super) fn new(root: &Path, example: &Path) -> Result<Self, Failure> {
        let folder = tempfile::tempdir().context("make a folder in", &env::temp_dir())?;
        let package = Self { folder, crates: root.join("crates").to_string_lossy().into_owned() };
        let manifest = read(&example.join("Cargo.toml"))?;
        let (own, _) = manifest.split_once(ADDED).unwrap_or((&manifest, ""));
        package.write("Cargo.toml", own)?;
        let sources = example.join("src");
        for entry in fs::read_dir(&sources).context("list", &sources)? {
            let path = entry.context("list", &sources)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            package.write(&format!("src/{name}"), &read(&path)?)?;
        }
        let lock = root.join("Cargo.lock");
        fs::copy(&lock, package.path("Cargo.lock")).context("copy", &lock)?;
        Ok(package)
    }

    /// Does to a file what a step says. The inner error says why that is not possible.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub(super) fn edit(&self, action: &Action) -> Result<Result<(), String>, Failure> {
        let (file, edited) = match action {
            Action::Write { file, text } => (file, Ok(text.clone())),
            Action::Append { file, text } => {
                let old = read(&self.path(file))?;
                let gap = if old.ends_with("\n\n") { "" } else { "\n" };
                (file, Ok(old + gap + text))
            }
            Action::Insert { file, text } => (file, insert(&read(&self.path(file))?, text)),
            Action::Replace { file, text } => (file, replace(&read(&self.path(file))?, text)),
            Action::Run { .. } => return Ok(Err("a command edits no file".to_owned())),
        };
        match edited {
            Ok(text) => self.write(file, &text.replace(BESIDE, &self.crates)).map(Ok),
            Err(what) => Ok(Err(what)),
        }
    }

    /// What a shell prints of a command, whatever it ends with.
    ///
    /// # Errors
    /// When there is no shell.
    pub(super) fn run(&self, command: &str, target: &Path) -> Result<String, Failure> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{command} 2>&1")).current_dir(self.folder.path());
        shell.env("CARGO_TARGET_DIR", target).env("CARGO_TERM_COLOR", "never");
        let output = shell.output().context("run a shell in", self.folder.path())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Holds the files to those of the example, or makes them those.
    ///
    /// # Errors
    /// The first file that is another one.
    pub(super) fn hold_to(&self, example: &Path, write: bool) -> Result<(), Failure> {
        for name in RESULTS {
            let (own, theirs) = (read(&self.path(name))?, example.join(name));
            let own = own.replace(&self.crates, FROM_EXAMPLE);
            if write {
                fs::create_dir_all(theirs.parent().unwrap_or(example)).context("create", example)?;
                fs::write(&theirs, own).context("write", &theirs)?;
            } else if read(&theirs)? != own {
                return Err(Failure::new(
                    format!("{} is not what the page leads to", theirs.display()),
                    "`cargo xtask plug-in --write` makes it that",
                ));
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).context("create", folder)?;
        }
        fs::write(&path, text).context("write", &path)
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).context("read", path)
}

/// Puts lines in front of the one that says where they belong.
fn insert(old: &str, text: &str) -> Result<String, String> {
    let place = old.find(PLACE).ok_or_else(|| format!("there is no line `{PLACE}` to insert at"))?;
    let line = old[..place].rfind('\n').map_or(0, |end| end + 1);
    Ok(format!("{}{text}\n{}", &old[..line], &old[line..]))
}

/// Puts an item in the place of the one that begins with the same words, up to the first parenthesis.
fn replace(old: &str, text: &str) -> Result<String, String> {
    let (head, _) = text.split_once('(').ok_or("the block begins with no function")?;
    let begin =
        old.find(&format!("\n{head}(")).ok_or_else(|| format!("there is no `{head}` to replace"))? + 1;
    let end =
        old[begin..].find("\n}\n").ok_or_else(|| format!("`{head}` has no end"))? + begin + "\n}\n".len();
    Ok(format!("{}{text}{}", &old[..begin], &old[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_where_the_page_says() {
        let old = format!("impl X {{\n    {PLACE}\n}}\n\nfn a(x: u8) {{\n    x\n}}\n\nfn b() {{\n}}\n");
        let inserted = insert(&old, "    fn y() {}\n").unwrap();
        assert!(
            inserted.starts_with(&format!("impl X {{\n    fn y() {{}}\n\n    {PLACE}\n}}\n")),
            "{inserted}"
        );
        let replaced = replace(&old, "fn a(y: u8) {\n    y\n}\n").unwrap();
        assert!(replaced.ends_with("}\n\nfn a(y: u8) {\n    y\n}\n\nfn b() {\n}\n"), "{replaced}");
        assert!(insert("", "x").is_err() && replace(&old, "fn c() {\n}\n").is_err());
    }

    #[test]
    fn a_trainer_is_given_a_file_and_held_to_the_example() {
        let root = tempfile::tempdir().unwrap();
        let example = root.path().join("example");
        for (name, text) in [
            ("Cargo.lock", ""),
            ("example/Cargo.toml", "[package]\n\n[dev-dependencies]\nx = { path = \"../../crates/x\" }\n"),
            ("example/src/lib.rs", "// trains\n"),
            ("example/tests/conformance.rs", "// tests\n"),
            ("example/lossproof.toml", "# pins\n"),
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let package = Package::new(root.path(), &example).unwrap();
        assert_eq!(
            package.run("cat src/lib.rs Cargo.toml", root.path()).unwrap(),
            "// trains\n[package]\n\n"
        );
        let added = "[dev-dependencies]\nx = { path = \"../lossproof/crates/x\" }\n".to_owned();
        let write = |file: &str, text: &str| Action::Write { file: file.to_owned(), text: text.to_owned() };
        for action in [
            Action::Append { file: "Cargo.toml".to_owned(), text: added },
            write("tests/conformance.rs", "// tests\n"),
            write("lossproof.toml", "# pins\n"),
        ] {
            assert_eq!(package.edit(&action).unwrap(), Ok(()));
        }
        package.hold_to(&example, false).unwrap();
        package.edit(&write("lossproof.toml", "# others\n")).unwrap().unwrap();
        let failure = package.hold_to(&example, false).unwrap_err().to_string();
        assert!(failure.contains("lossproof.toml is not what the page leads to"), "{failure}");
        package.hold_to(&example, true).unwrap();
        package.hold_to(&example, false).unwrap();
    }
}
