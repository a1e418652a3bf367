//! The public interface of the libraries that others build on, as lists under docs/api/ that change with it.
//!
//! What is read is the source, so that it takes a second and any toolchain does: rustdoc's JSON has a form
//! that changes with the compiler and is for nightly alone. Hence types stand in a list as they are written,
//! not resolved; whether a type is `Send` is not seen; and of what a `macro_rules!` of the crate makes there
//! is the template beside its calls.

mod attributes;
mod exports;
mod impls;
mod items;
mod macros;
mod text;

#[cfg(test)]
mod tests;

use crate::failure::{Failure, IoContext as _};
use crate::rust::names::Names;
use crate::rust::tree;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The packages that others build on. What they export of other packages of ours is listed there.
const ROOTS: [&str; 2] = ["lossproof", "lossproof-subject"];

/// Where the lists are.
const FOLDER: &str = "docs/api";

/// How many lines of a difference are shown on either side.
const SHOWN: usize = 8;

/// What to do about a list that is another.
const ADVICE: &str = "  if that is meant, write it anew with `cargo xtask api`, and say in CHANGELOG.md what \
                      it asks of others: \"Versions\" there says which changes are breaking";

/// One line of a list. Their order is that of their paths, then of what they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    /// The path that others name it by.
    path: String,
    /// Of two lines with a path the lower stands first: what it is, then what it implements.
    rank: u8,
    text: String,
}

/// What others can name of one crate.
struct Listing {
    lines: BTreeSet<Line>,
    /// The crates that it exports something of.
    exported: BTreeSet<String>,
}

/// Writes the lists.
///
/// # Errors
/// Source that cannot be read, or a list that cannot be written.
pub(crate) fn write(root: &Path) -> Result<(), Failure> {
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder).context("make the folder", &folder)?;
    for (package, list) in lists(root)? {
        let path = root.join(file(&package));
        let partial = path.with_extension("txt.new");
        fs::write(&partial, &list).context("write", &partial)?;
        fs::rename(&partial, &path).context("write", &path)?;
        eprintln!("api: {}: {} lines", file(&package).display(), list.lines().count());
    }
    Ok(())
}

/// One finding for each list that is not what the source says.
///
/// # Errors
/// Source that cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, Failure> {
    let mut findings = Vec::new();
    for (package, list) in lists(root)? {
        let file = file(&package);
        let kept = fs::read_to_string(root.join(&file)).unwrap_or_default();
        if kept != list {
            findings.push(difference(&file, &kept, &list));
        }
    }
    Ok(findings)
}

/// The list of a package, relative to the root of the workspace.
fn file(package: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{package}.txt"))
}

/// In what the list that is kept is another than what the source says, and what to do.
fn difference(file: &Path, kept: &str, found: &str) -> String {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (kept.lines().collect(), found.lines().collect());
    let mut said = vec![format!("{}: the public interface is another:", file.display())];
    for (sign, lines) in [('-', old.difference(&new)), ('+', new.difference(&old))] {
        let lines: Vec<_> = lines.collect();
        for line in lines.iter().take(SHOWN) {
            said.push(format!("    {sign} {line}"));
        }
        if lines.len() > SHOWN {
            said.push(format!("    {sign} {} more", lines.len() - SHOWN));
        }
    }
    said.push(ADVICE.to_owned());
    said.join("\n")
}

/// The list of each package that others build on, and of each that one of them exports something of.
fn lists(root: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut lists = BTreeMap::new();
    let mut waiting: Vec<String> = ROOTS.map(str::to_owned).to_vec();
    while let Some(package) = waiting.pop() {
        if lists.contains_key(&package) {
            continue;
        }
        let library = Path::new("crates").join(&package).join("src/lib.rs");
        let text = |path: &Path| fs::read_to_string(root.join(path)).ok();
        let listing = listing(&package.replace('-', "_"), &library, &text).map_err(|what| {
            Failure::new(
                format!("cannot list what {package} exports: {what}"),
                "make the workspace compile first",
            )
        })?;
        for exported in &listing.exported {
            let package = exported.replace('_', "-");
            if root.join("crates").join(&package).is_dir() {
                waiting.push(package);
            }
        }
        lists.insert(package.clone(), written(&package, &listing));
    }
    Ok(lists)
}

/// A list as it stands in its file.
fn written(package: &str, listing: &Listing) -> String {
    let mut list = format!(
        "# What others can name of {package}: written by `cargo xtask api` from the source, held by \
         `cargo xtask tidy`.\n\
         # `{{ .. }}` is a body that a trait provides, or fields that are not public.\n"
    );
    for line in &listing.lines {
        list.push_str(&line.text);
        list.push('\n');
    }
    list
}

/// What others can name of the crate `name`, which starts with the file `library`.
///
/// # Errors
/// A file that is missing or is no Rust, in words that name it.
fn listing(name: &str, library: &Path, text: &dyn Fn(&Path) -> Option<String>) -> Result<Listing, String> {
    let modules = tree::read(library, text)?;
    let names = Names::of(&modules);
    let exports = exports::of(name, &modules, &names);
    let mut lines: BTreeSet<_> = items::lines(&modules, &exports).into_iter().collect();
    lines.extend(impls::lines(&modules, &names, &exports));
    lines.extend(macros::lines(name, &modules));
    Ok(Listing { lines, exported: exports.foreign_crates() })
}
