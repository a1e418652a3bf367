//! What every package's manifest must say.

use super::Package;
use crate::failure::{Failure, IoContext as _};
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// The workspace of the released trainers, which has the same lints.
const GUARDS: &str = "guards/Cargo.toml";

/// Folders under `crates/` that are not called like their package (an adapter's: like the trainer it adapts),
/// and packages that do without the workspace's lints.
pub(crate) fn check(root: &Path, packages: &[Package]) -> Result<Vec<String>, Failure> {
    let workspace = read(&root.join("Cargo.toml"))?;
    let workspace_lints = lints_of(&workspace);
    let mut findings = Vec::new();
    if lints_of(&read(&root.join(GUARDS))?) != workspace_lints {
        findings.push(format!("{GUARDS}: its [workspace.lints] are not those of Cargo.toml"));
    }
    for package in packages {
        findings.extend(misnamed(package));
        let manifest = read(&root.join(&package.manifest))?;
        if let Some(what) = lints(&manifest, workspace_lints) {
            findings.push(format!("{}: {what}", package.manifest.display()));
        }
    }
    Ok(findings)
}

fn lints_of(workspace: &Table) -> Option<&Value> {
    workspace.get("workspace").and_then(|table| table.get("lints"))
}

fn read(path: &Path) -> Result<Table, Failure> {
    let text = fs::read_to_string(path).context("read", path)?;
    text.parse().map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", path.display()), "cargo metadata names the place")
    })
}

fn misnamed(package: &Package) -> Option<String> {
    let folder = package.manifest.parent()?;
    let name = folder.file_name()?.to_str()?;
    let expected =
        if folder.starts_with("crates/adapters") { format!("lossproof-{name}") } else { name.to_owned() };
    (folder.starts_with("crates") && expected != package.name)
        .then(|| format!("{}: the package is called {}, not {expected}", folder.display(), package.name))
}

/// A package inherits the workspace's lints, or repeats them with `unsafe_code` lowered to "deny" so that one
/// module can say why it needs it: cargo has no way to inherit and override.
fn lints(manifest: &Table, workspace: Option<&Value>) -> Option<&'static str> {
    let own = manifest.get("lints");
    if own.and_then(|table| table.get("workspace")) == Some(&Value::Boolean(true)) {
        return None;
    }
    let Some(own) = own else {
        return Some("has no [lints]; write workspace = true there");
    };
    let mut expected = workspace?.clone();
    expected
        .get_mut("rust")?
        .as_table_mut()?
        .insert("unsafe_code".to_owned(), Value::String("deny".to_owned()));
    (*own != expected).then_some(
        "its [lints] are neither workspace = true nor the workspace's own with unsafe_code = \"deny\"",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    fn finding(manifest: &str) -> Option<&'static str> {
        let workspace = table("[lints.rust]\nunsafe_code = \"forbid\"\nmissing_docs = \"warn\"");
        lints(&table(manifest), workspace.get("lints"))
    }

    #[test]
    fn lints_are_inherited_or_equal_but_for_unsafe_code() {
        assert_eq!(finding("[lints]\nworkspace = true"), None);
        assert_eq!(finding("[lints.rust]\nunsafe_code = \"deny\"\nmissing_docs = \"warn\""), None);
    }

    #[test]
    fn missing_or_drifting_lints_are_findings() {
        assert!(finding("").unwrap().contains("has no [lints]"));
        for drifted in [
            "[lints]\nworkspace = false",
            "[lints.rust]\nunsafe_code = \"deny\"",
            "[lints.rust]\nunsafe_code = \"warn\"\nmissing_docs = \"warn\"",
            "[lints.rust]\nunsafe_code = \"deny\"\nmissing_docs = \"allow\"",
        ] {
            assert!(finding(drifted).unwrap().contains("neither"), "{drifted}");
        }
    }

    #[test]
    fn only_folders_under_crates_carry_their_packages_name() {
        let package = |name: &str, manifest: &str| Package {
            name: name.to_owned(),
            manifest: manifest.into(),
            dependencies: Vec::new(),
            roots: Vec::new(),
        };
        assert_eq!(misnamed(&package("lossproof-spec", "crates/lossproof-spec/Cargo.toml")), None);
        assert_eq!(misnamed(&package("lossproof-tests", "tests/Cargo.toml")), None);
        let adapter = "crates/adapters/femto-gpt/Cargo.toml";
        assert_eq!(misnamed(&package("lossproof-femto-gpt", adapter)), None);
        assert!(misnamed(&package("femto-gpt", adapter)).is_some());
        let finding = misnamed(&package("lossproof-spec", "crates/spec/Cargo.toml")).unwrap();
        assert!(finding.contains("crates/spec") && finding.contains("lossproof-spec"), "{finding}");
    }
}
