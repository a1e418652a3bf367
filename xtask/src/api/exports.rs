//! What others can name of a crate, and by which path.

use super::attributes;
use crate::rust::code;
use crate::rust::imports;
use crate::rust::names::{Found, Names, defined};
use crate::rust::tree::Module;
use std::collections::{BTreeMap, BTreeSet};
use syn::{Item, Visibility};

/// Something that others can name.
pub(super) struct Export {
    /// The path that it has for others, with the crate's name.
    pub(super) path: String,
    /// The conditions that stand on the way to it, each once.
    pub(super) conditions: Vec<String>,
    pub(super) what: What,
}

/// What an [`Export`] leads to.
pub(super) enum What {
    /// A module of the crate.
    Module,
    /// What the crate defines: the index of a module and that of the item in it.
    Item(usize, usize),
    /// What another crate defines, by this path.
    Foreign(Vec<String>),
}

/// Everything that others can name.
pub(super) struct Exports {
    pub(super) all: Vec<Export>,
    /// For what the crate defines, the shortest of its paths, of several the first by name.
    paths: BTreeMap<(usize, usize), String>,
}

impl Exports {
    /// The path of what the crate defines, if others can name it.
    pub(super) fn path(&self, module: usize, item: usize) -> Option<&str> {
        self.paths.get(&(module, item)).map(String::as_str)
    }

    /// The crates that something is exported of.
    pub(super) fn foreign_crates(&self) -> BTreeSet<String> {
        let mut crates = BTreeSet::new();
        for export in &self.all {
            if let What::Foreign(path) = &export.what {
                crates.extend(path.first().cloned());
            }
        }
        crates
    }
}

/// What others can name of the crate `name`.
pub(super) fn of(name: &str, modules: &[Module], names: &Names<'_>) -> Exports {
    let mut walk = Walk { modules, names, entered: Vec::new(), found: Vec::new() };
    walk.module(0, name, &[]);
    let mut paths = BTreeMap::<(usize, usize), String>::new();
    for export in &walk.found {
        if let What::Item(module, item) = export.what {
            let length = |path: &str| (path.matches("::").count(), path.to_owned());
            let known = paths.entry((module, item)).or_insert_with(|| export.path.clone());
            if length(&export.path) < length(known) {
                known.clone_from(&export.path);
            }
        }
    }
    Exports { all: walk.found, paths }
}

struct Walk<'a> {
    modules: &'a [Module],
    names: &'a Names<'a>,
    /// The modules on the way: one that exports one of them leads back.
    entered: Vec<usize>,
    found: Vec<Export>,
}

impl Walk<'_> {
    /// Adds what the module `here` has for others, who name it by `path`.
    fn module(&mut self, here: usize, path: &str, conditions: &[String]) {
        if self.entered.contains(&here) {
            return;
        }
        self.entered.push(here);
        for (index, item) in self.modules[here].items.iter().enumerate() {
            let attributes = code::attributes(item);
            if !is_public(item) || attributes::is_hidden(attributes) {
                continue;
            }
            let conditions = with(conditions, attributes::conditions(attributes));
            if let Item::Use(item) = item {
                for import in imports::of(item) {
                    self.import(here, import, path, &conditions);
                }
            } else if let Some(name) = defined(item) {
                self.add(format!("{path}::{name}"), &conditions, What::Item(here, index));
            }
        }
        for (child, module) in self.modules.iter().enumerate() {
            let Some(name) = module.last_name().filter(|_| module.parent == Some(here)) else { continue };
            if module.is_public && !attributes::is_hidden(&module.attributes) {
                let conditions = with(conditions, attributes::conditions(&module.attributes));
                self.add(format!("{path}::{name}"), &conditions, What::Module);
                self.module(child, &format!("{path}::{name}"), &conditions);
            }
        }
        self.entered.pop();
    }

    /// Adds what a `pub use` in the module `here` has for others.
    fn import(&mut self, here: usize, import: imports::Import, path: &str, conditions: &[String]) {
        let meanings = self.names.meanings(here, &import.path);
        if import.is_glob {
            for meaning in &meanings {
                if let Found::Module(module) = meaning {
                    self.module(*module, path, conditions);
                }
            }
        }
        let name = import.name.unwrap_or_else(|| "*".to_owned());
        let path = format!("{path}::{name}");
        if meanings.is_empty() {
            self.add(path, conditions, What::Foreign(import.path));
        } else if !import.is_glob {
            for meaning in meanings {
                match meaning {
                    Found::Module(module) => {
                        self.add(path.clone(), conditions, What::Module);
                        self.module(module, &path, conditions);
                    }
                    Found::Item { module, item } => {
                        self.add(path.clone(), conditions, What::Item(module, item));
                    }
                }
            }
        }
    }

    fn add(&mut self, path: String, conditions: &[String], what: What) {
        self.found.push(Export { path, conditions: conditions.to_vec(), what });
    }
}

/// The conditions under which the module `here` is there.
pub(super) fn conditions_of(modules: &[Module], here: usize) -> Vec<String> {
    let above = modules[here].parent.map_or_else(Vec::new, |parent| conditions_of(modules, parent));
    with(&above, attributes::conditions(&modules[here].attributes))
}

/// The conditions `before`, and those of `own` that are not among them.
pub(super) fn with(before: &[String], own: Vec<String>) -> Vec<String> {
    let mut all = before.to_vec();
    for condition in own {
        if !all.contains(&condition) {
            all.push(condition);
        }
    }
    all
}

/// Whether `pub` stands before the item.
fn is_public(item: &Item) -> bool {
    let visibility = match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::TraitAlias(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Union(item) => &item.vis,
        Item::Use(item) => &item.vis,
        _ => return false,
    };
    matches!(visibility, Visibility::Public(_))
}
