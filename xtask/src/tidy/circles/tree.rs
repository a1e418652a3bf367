//! The modules of a crate, found by following `mod` from the file it starts with.

use super::code;
use std::path::{Path, PathBuf};
use syn::{Expr, ExprLit, Item, ItemMod, Lit, Meta};

/// A module: a file, or what stands between the braces of `mod name { … }`.
pub(super) struct Module {
    /// The names on the way from the crate's root to here. The root has none.
    path: Vec<String>,
    /// Index of the module that declares it.
    pub(super) parent: Option<usize>,
    /// The file it stands in.
    pub(super) file: PathBuf,
    /// What it declares, but for modules, which are listed themselves, and tests.
    pub(super) items: Vec<Item>,
}

impl Module {
    /// Its path from the crate's root, as in `a::b`.
    pub(super) fn name(&self) -> String {
        self.path.join("::")
    }

    /// The last part of its path; `None` for the root.
    pub(super) fn last_name(&self) -> Option<&str> {
        self.path.last().map(String::as_str)
    }
}

/// The modules of the crate that starts with the file `root`. The root is the first, and each comes after its
/// parent.
///
/// # Errors
/// A file that is missing or is no Rust, in words that name it.
pub(super) fn read<'a>(root: &Path, text: &dyn Fn(&Path) -> Option<&'a str>) -> Result<Vec<Module>, String> {
    let mut reader = Reader { text, modules: Vec::new() };
    let folder = root.parent().unwrap_or(Path::new(""));
    reader.file(Vec::new(), None, root, folder)?;
    Ok(reader.modules)
}

struct Reader<'a, 'b> {
    text: &'b dyn Fn(&Path) -> Option<&'a str>,
    modules: Vec<Module>,
}

impl Reader<'_, '_> {
    /// Adds the module that `file` holds, whose own modules lie in `folder`.
    fn file(
        &mut self,
        path: Vec<String>,
        parent: Option<usize>,
        file: &Path,
        folder: &Path,
    ) -> Result<(), String> {
        let text = (self.text)(file).ok_or_else(|| {
            format!("there is no {}: a module or a target is declared that has no file", file.display())
        })?;
        let parsed = syn::parse_file(text).map_err(|error| {
            let line = error.span().start().line;
            format!("cannot parse {}:{line}: {error}: make it compile first", file.display())
        })?;
        if code::is_test(&parsed.attrs) {
            return Ok(());
        }
        self.module(path, parent, file, folder, parsed.items)
    }

    /// Adds a module that declares `items`.
    fn module(
        &mut self,
        path: Vec<String>,
        parent: Option<usize>,
        file: &Path,
        folder: &Path,
        items: Vec<Item>,
    ) -> Result<(), String> {
        let here = self.modules.len();
        self.modules.push(Module { path, parent, file: file.to_owned(), items: Vec::new() });
        for item in items {
            match item {
                _ if code::is_test(code::attributes(&item)) => {}
                Item::Mod(child) => self.child(here, folder, child)?,
                other => self.modules[here].items.push(other),
            }
        }
        Ok(())
    }

    /// Adds a module that the module `parent` declares.
    fn child(&mut self, parent: usize, folder: &Path, child: ItemMod) -> Result<(), String> {
        let declaring = self.modules[parent].file.clone();
        let name = child.ident.to_string();
        let mut path = self.modules[parent].path.clone();
        path.push(name.clone());
        let inner = folder.join(&name);
        if let Some((_, items)) = child.content {
            return self.module(path, Some(parent), &declaring, &inner, items);
        }
        if let Some(named) = named_file(&child) {
            let file = declaring.parent().unwrap_or(Path::new("")).join(named);
            let folder = file.parent().unwrap_or(Path::new("")).to_owned();
            return self.file(path, Some(parent), &file, &folder);
        }
        let own = folder.join(format!("{name}.rs"));
        let file = if (self.text)(&own).is_some() { own } else { inner.join("mod.rs") };
        self.file(path, Some(parent), &file, &inner)
    }
}

/// The file that `#[path = "…"]` names.
fn named_file(module: &ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(file), .. }) => Some(file.value()),
            _ => None,
        },
        _ => None,
    })
}
