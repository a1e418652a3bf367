//! The modules of a crate, found by following `mod` from the file it starts with.

use super::code;
use std::path::{Path, PathBuf};
use syn::{Attribute, Expr, ExprLit, Item, ItemMod, Lit, Meta, Visibility};

/// A module: a file, or what stands between the braces of `mod name { … }`.
pub(crate) struct Module {
    /// The names on the way from the crate's root to here. The root has none.
    path: Vec<String>,
    /// Index of the module that declares it.
    pub(crate) parent: Option<usize>,
    /// The file it stands in.
    pub(crate) file: PathBuf,
    /// Whether `pub` stands before its declaration. The root is public.
    pub(crate) is_public: bool,
    /// The attributes of its declaration and those at the top of its file.
    pub(crate) attributes: Vec<Attribute>,
    /// What it declares, but for modules, which are listed themselves, and tests.
    pub(crate) items: Vec<Item>,
}

impl Module {
    /// Its path from the crate's root, as in `a::b`.
    pub(crate) fn name(&self) -> String {
        self.path.join("::")
    }

    /// The last part of its path; `None` for the root.
    pub(crate) fn last_name(&self) -> Option<&str> {
        self.path.last().map(String::as_str)
    }
}

/// The modules of the crate that starts with the file `root`. The root is the first, and each comes after its
/// parent. `text` is what stands in a file.
///
/// # Errors
/// A file that is missing or is no Rust, in words that name it.
pub(crate) fn read(root: &Path, text: &dyn Fn(&Path) -> Option<String>) -> Result<Vec<Module>, String> {
    let mut reader = Reader { text, modules: Vec::new() };
    let folder = root.parent().unwrap_or(Path::new(""));
    let module = Module {
        path: Vec::new(),
        parent: None,
        file: root.to_owned(),
        is_public: true,
        attributes: Vec::new(),
        items: Vec::new(),
    };
    reader.file(module, folder)?;
    Ok(reader.modules)
}

struct Reader<'a> {
    text: &'a dyn Fn(&Path) -> Option<String>,
    modules: Vec<Module>,
}

impl Reader<'_> {
    /// Adds `module` with what its file declares, its own modules from `folder` included.
    fn file(&mut self, mut module: Module, folder: &Path) -> Result<(), String> {
        let file = module.file.clone();
        let text = (self.text)(&file).ok_or_else(|| {
            format!("there is no {}: a module or a target is declared that has no file", file.display())
        })?;
        let parsed = syn::parse_file(&text).map_err(|error| {
            let line = error.span().start().line;
            format!("cannot parse {}:{line}: {error}: make it compile first", file.display())
        })?;
        if code::is_test(&parsed.attrs) {
            return Ok(());
        }
        module.attributes.extend(parsed.attrs);
        self.module(module, folder, parsed.items)
    }

    /// Adds `module`, which declares `items`.
    fn module(&mut self, module: Module, folder: &Path, items: Vec<Item>) -> Result<(), String> {
        let here = self.modules.len();
        self.modules.push(module);
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
        let named = named_file(&child);
        let mut module = Module {
            path,
            parent: Some(parent),
            file: declaring,
            is_public: matches!(child.vis, Visibility::Public(_)),
            attributes: child.attrs,
            items: Vec::new(),
        };
        if let Some((_, items)) = child.content {
            return self.module(module, &inner, items);
        }
        if let Some(named) = named {
            module.file = module.file.parent().unwrap_or(Path::new("")).join(named);
            let folder = module.file.parent().unwrap_or(Path::new("")).to_owned();
            return self.file(module, &folder);
        }
        let own = folder.join(format!("{name}.rs"));
        module.file = if (self.text)(&own).is_some() { own } else { inner.join("mod.rs") };
        self.file(module, &inner)
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
