//! What a path means: the module in which the thing it names is defined.

use super::code;
use super::imports;
use super::tree::Module;
use std::collections::{BTreeMap, BTreeSet};
use syn::Item;

/// The names that each module of a crate knows.
pub(crate) struct Names<'a> {
    modules: &'a [Module],
    tables: Vec<Table>,
}

/// The names that one module knows.
#[derive(Default)]
struct Table {
    /// A name can mean several things: a module and a function, say.
    names: BTreeMap<String, Vec<Meaning>>,
    /// The paths of `use path::*`.
    globs: Vec<Vec<String>>,
}

/// What a name stands for.
enum Meaning {
    Found(Found),
    /// What this path leads to, from the same module.
    Import(Vec<String>),
}

/// Where a path leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Found {
    /// The module of this index.
    Module(usize),
    /// Something that a module defines.
    Item {
        /// The index of the module.
        module: usize,
        /// Its index among what the module declares.
        item: usize,
    },
}

/// Questions that are being answered: a module and a path from it. An import that leads back to itself ends
/// there.
type Asked<'a> = BTreeSet<(usize, &'a [String])>;

impl<'a> Names<'a> {
    /// The names that `modules`, which are those of one crate, declare and import.
    pub(crate) fn of(modules: &'a [Module]) -> Self {
        let mut tables: Vec<_> = modules.iter().map(|_| Table::default()).collect();
        for (here, module) in modules.iter().enumerate() {
            if let (Some(parent), Some(name)) = (module.parent, module.last_name()) {
                tables[parent].add(name.to_owned(), Meaning::Found(Found::Module(here)));
            }
            for (index, item) in module.items.iter().enumerate() {
                if let Item::Use(item) = item {
                    tables[here].import(item);
                } else if let Some(name) = defined(item) {
                    let found = Found::Item { module: here, item: index };
                    tables[here].add(name.clone(), Meaning::Found(found));
                    if code::attributes(item).iter().any(|one| one.path().is_ident("macro_export")) {
                        tables[0].add(name, Meaning::Found(found));
                    }
                }
            }
        }
        Self { modules, tables }
    }

    /// What `path` names where it stands in the module `from`: nothing for what other crates define, several
    /// for a name with several meanings.
    pub(crate) fn meanings(&self, from: usize, path: &[String]) -> BTreeSet<Found> {
        self.find(from, path, &mut BTreeSet::new())
    }

    /// The modules in which what `path` names is defined: none for what other crates define, several for a
    /// name with several meanings. Only an import can end at a module.
    pub(crate) fn targets(&self, from: usize, path: &[String], is_import: bool) -> BTreeSet<usize> {
        // What a macro makes is in no table: then the module that the path gets to.
        for length in (1..=path.len()).rev() {
            let mut found = self.meanings(from, &path[..length]);
            if length == path.len() && !is_import {
                found.retain(|found| matches!(found, Found::Item { .. }));
            }
            if !found.is_empty() {
                return found.iter().map(|found| found.module()).collect();
            }
        }
        BTreeSet::new()
    }

    /// Where `path` leads, written in the module `from`.
    fn find<'b>(&'b self, from: usize, path: &'b [String], asked: &mut Asked<'b>) -> BTreeSet<Found> {
        let mut here = from;
        let mut rest = path;
        while let [first, after @ ..] = rest {
            here = match first.as_str() {
                "crate" => 0,
                "self" => here,
                "super" => self.modules[here].parent.unwrap_or(here),
                _ => break,
            };
            rest = after;
        }
        self.find_below(here, rest, asked)
    }

    /// Where `path`, which begins with a name, leads from the module `here`.
    fn find_below<'b>(&'b self, here: usize, path: &'b [String], asked: &mut Asked<'b>) -> BTreeSet<Found> {
        let Some((name, rest)) = path.split_first() else {
            return BTreeSet::from([Found::Module(here)]);
        };
        if !asked.insert((here, path)) {
            return BTreeSet::new();
        }
        let table = &self.tables[here];
        let mut found = BTreeSet::new();
        for meaning in table.names.get(name).map_or(&[][..], Vec::as_slice) {
            let meant = match meaning {
                Meaning::Found(found) => BTreeSet::from([*found]),
                Meaning::Import(path) => self.find(here, path, asked),
            };
            for meant in meant {
                found.extend(self.continue_from(meant, rest, asked));
            }
        }
        if found.is_empty() {
            for glob in &table.globs {
                for everything_of in self.find(here, glob, asked) {
                    if let Found::Module(module) = everything_of {
                        found.extend(self.find_below(module, path, asked));
                    }
                }
            }
        }
        asked.remove(&(here, path));
        found
    }

    /// Where the rest of a path leads from what its beginning means. Below an item are its own variants and
    /// functions.
    fn continue_from<'b>(
        &'b self,
        meant: Found,
        rest: &'b [String],
        asked: &mut Asked<'b>,
    ) -> BTreeSet<Found> {
        match meant {
            Found::Module(module) => self.find_below(module, rest, asked),
            Found::Item { module, item } => {
                let is_below = rest.is_empty() || has_names(&self.modules[module].items[item]);
                if is_below { BTreeSet::from([meant]) } else { BTreeSet::new() }
            }
        }
    }
}

impl Found {
    fn module(self) -> usize {
        match self {
            Self::Module(module) | Self::Item { module, .. } => module,
        }
    }
}

impl Table {
    fn add(&mut self, name: String, meaning: Meaning) {
        self.names.entry(name).or_default().push(meaning);
    }

    fn import(&mut self, item: &syn::ItemUse) {
        for import in imports::of(item) {
            if import.is_glob {
                self.globs.push(import.path);
            } else if let Some(name) = import.name {
                self.add(name, Meaning::Import(import.path));
            }
        }
    }
}

/// Whether a path can go on behind the item's name, to a variant, say.
fn has_names(item: &Item) -> bool {
    !matches!(item, Item::Const(_) | Item::Fn(_) | Item::Macro(_) | Item::Static(_))
}

/// The name that an item defines.
pub(crate) fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}
