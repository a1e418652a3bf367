//! What holds for every source file: modules stay short, and lints are silenced with a reason.

use crate::failure::{Failure, IoContext as _};
use std::fs;
use std::path::{Path, PathBuf};

/// The longest a module may be, in lines, its unit tests aside.
const MAX_LINES: usize = 400;

/// The Rust sources of the workspace, as paths relative to its root.
pub(crate) struct Sources {
    files: Vec<(PathBuf, String)>,
}

impl Sources {
    /// Reads every `.rs` file under `root`, but for build output and hidden folders.
    pub(crate) fn read(root: &Path) -> Result<Self, Failure> {
        let mut files = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).context("list", &folder)? {
                let path = entry.context("list", &folder)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if path.is_dir() {
                    if !name.starts_with('.') && name != "target" {
                        folders.push(path);
                    }
                } else if name.ends_with(".rs") {
                    let text = fs::read_to_string(&path).context("read", &path)?;
                    files.push((path.strip_prefix(root).unwrap_or(&path).to_owned(), text));
                }
            }
        }
        files.sort();
        Ok(Self { files })
    }

    /// What stands in the file at `path`, relative to the root; `None` where there is no such source.
    pub(crate) fn text(&self, path: &Path) -> Option<&str> {
        let found = self.files.binary_search_by(|(known, _)| known.as_path().cmp(path)).ok()?;
        Some(&self.files[found].1)
    }

    /// Modules over the limit, and lints silenced by `allow`.
    pub(crate) fn check(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (path, text) in &self.files {
            let lines = lines(text);
            if is_module(path) && lines > MAX_LINES {
                findings.push(format!(
                    "{}: {lines} lines, {MAX_LINES} at most: one idea per module, split it",
                    path.display()
                ));
            }
            for number in allows(text) {
                findings.push(format!(
                    "{}:{number}: silence a lint with #[expect(lint, reason = \"…\")], not with allow",
                    path.display()
                ));
            }
        }
        findings
    }

    /// How many modules there are, and which is the longest.
    pub(crate) fn summary(&self) -> String {
        let modules = || self.files.iter().filter(|(path, _)| is_module(path));
        let longest = modules().map(|(path, text)| (lines(text), path)).max();
        longest.map_or_else(
            || "no modules".to_owned(),
            |(lines, path)| {
                format!("{} modules, the longest {} with {lines} lines", modules().count(), path.display())
            },
        )
    }
}

/// Whether `path` is a module of a library or program, as opposed to a test suite, a bench or an example.
fn is_module(path: &Path) -> bool {
    let in_a_package = path.starts_with("crates") || path.starts_with("xtask");
    in_a_package && path.components().any(|part| part.as_os_str() == "src") && !path.ends_with("tests.rs")
}

/// The lines of a module down to its unit tests, which clippy (`items_after_test_module`) keeps at the end.
fn lines(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{'))
        .unwrap_or(lines.len())
}

fn allows(text: &str) -> impl Iterator<Item = usize> {
    let is_allow =
        |line: &str| ["#[allow(", "#![allow("].iter().any(|start| line.trim_start().starts_with(start));
    text.lines().zip(1..).filter(move |(line, _)| is_allow(line)).map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        Sources { files: vec![(path.into(), text.to_owned())] }.check()
    }

    #[test]
    fn a_module_over_the_limit_is_named_with_its_count() {
        assert!(findings("crates/a/src/lib.rs", &"x\n".repeat(MAX_LINES)).is_empty());
        let finding = findings("crates/a/src/lib.rs", &"x\n".repeat(MAX_LINES + 1));
        assert!(finding[0].starts_with("crates/a/src/lib.rs: 401 lines"), "{finding:?}");
    }

    #[test]
    fn tests_are_not_counted() {
        let inline = format!("x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(MAX_LINES));
        assert!(findings("crates/a/src/lib.rs", &inline).is_empty());
        for path in ["crates/a/src/b/tests.rs", "crates/a/tests/all.rs", "tests/tests/all.rs"] {
            assert!(findings(path, &"x\n".repeat(MAX_LINES + 1)).is_empty(), "{path}");
        }
    }

    #[test]
    fn a_test_module_in_a_file_of_its_own_does_not_hide_what_follows() {
        let text = format!("#[cfg(test)]\nmod tests;\n{}", "x\n".repeat(MAX_LINES));
        assert_eq!(findings("xtask/src/main.rs", &text).len(), 1);
    }

    #[test]
    fn a_silenced_lint_is_found_at_its_line() {
        for attribute in ["#[allow(dead_code)]", "    #![allow(clippy::all, reason = \"\")]"] {
            let finding = findings("tests/tests/all.rs", &format!("//! x\n{attribute}\n"));
            assert!(finding[0].starts_with("tests/tests/all.rs:2:"), "{finding:?}");
        }
        assert!(findings("crates/a/src/lib.rs", "#[expect(dead_code, reason = \"\")]").is_empty());
    }

    #[test]
    fn build_output_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["target/debug", ".libtorch", "crates/a/src"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join("lib.rs"), "#[allow(x)]\n").unwrap();
        }
        let sources = Sources::read(root.path()).unwrap();
        assert_eq!(sources.check().len(), 1);
        assert_eq!(sources.summary(), "1 modules, the longest crates/a/src/lib.rs with 1 lines");
    }
}
