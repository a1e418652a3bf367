//! The lines of what is implemented: by hand, and by a derive.

use super::Line;
use super::attributes;
use super::exports::{Exports, What, conditions_of, with};
use super::items;
use super::text;
use crate::rust::code;
use crate::rust::names::{Found, Names};
use crate::rust::tree::Module;
use syn::visit::{self, Visit};
use syn::{ImplItem, Item, ItemImpl, Path, Type, Visibility};

/// The rank of what a type implements, behind what it is.
const RANK: u8 = 1;

/// The lines of every implementation whose types and traits others can name.
pub(super) fn lines(modules: &[Module], names: &Names<'_>, exports: &Exports) -> Vec<Line> {
    let mut lines = derived(modules, exports);
    for (here, module) in modules.iter().enumerate() {
        let conditions = conditions_of(modules, here);
        for item in &module.items {
            let Item::Impl(item) = item else { continue };
            let conditions = with(&conditions, attributes::conditions(&item.attrs));
            let scope = Scope { here, names, exports };
            if let Some(path) = scope.told_under(item) {
                lines.extend(implementation(item, path, &attributes::with_blanks(&conditions)));
            }
        }
    }
    lines
}

/// What is derived for the types that others can name.
fn derived(modules: &[Module], exports: &Exports) -> Vec<Line> {
    let mut lines = Vec::new();
    for export in &exports.all {
        let What::Item(module, item) = export.what else { continue };
        if exports.path(module, item) != Some(&export.path) {
            continue;
        }
        for (condition, derived) in attributes::derives(code::attributes(&modules[module].items[item])) {
            let before = attributes::with_blanks(&export.conditions);
            let text = format!("{before}{condition}impl {derived} for {} (derived)", export.path);
            lines.push(Line { path: export.path.clone(), rank: RANK, text });
        }
    }
    lines
}

/// The module that an implementation stands in.
struct Scope<'a> {
    here: usize,
    names: &'a Names<'a>,
    exports: &'a Exports,
}

impl Scope<'_> {
    /// The path of what others look under for it: the type that has it, or else the first name of the crate
    /// in its head. None where there is no such name, or one of them is nothing that others can name.
    fn told_under(&self, item: &ItemImpl) -> Option<&str> {
        let mut paths = Paths(Vec::new());
        paths.visit_type(&item.self_ty);
        if let Some((_, implemented, _)) = &item.trait_ {
            paths.visit_path(implemented);
        }
        let mut told = None;
        for path in &paths.0 {
            for found in self.names.meanings(self.here, path) {
                if let Found::Item { module, item } = found {
                    let path = self.exports.path(module, item)?;
                    told = told.or(Some(path));
                }
            }
        }
        told
    }
}

/// The paths in the head of an implementation.
struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The lines of one implementation: the functions that a type has of its own, or the head with the trait.
fn implementation(item: &ItemImpl, path: &str, conditions: &str) -> Vec<Line> {
    let parameters = text::generics(&item.generics);
    let bounds = text::bounds(&item.generics);
    let Some((no, implemented, _)) = &item.trait_ else {
        let of = if parameters.is_empty() {
            String::new()
        } else {
            format!("impl{parameters} {}{bounds}: ", text::of(&*item.self_ty))
        };
        return own(item, path, &format!("{conditions}{of}"));
    };
    let mut chosen = Vec::new();
    for part in &item.items {
        match part {
            ImplItem::Type(part) => chosen.push(format!("type {} = {}", part.ident, text::of(&part.ty))),
            ImplItem::Const(part) => chosen.push(format!("const {} = {}", part.ident, text::of(&part.expr))),
            _ => {}
        }
    }
    let chosen = if chosen.is_empty() { String::new() } else { format!(" {{ {} }}", chosen.join("; ")) };
    let (no, implemented) = (if no.is_some() { "!" } else { "" }, text::of(implemented));
    let subject = named(&item.self_ty, path);
    let text = format!("{conditions}impl{parameters} {no}{implemented} for {subject}{bounds}{chosen}");
    vec![Line { path: path.to_owned(), rank: RANK, text }]
}

/// The type as it is written, with `path` for its name where it is the type that others know by that path.
fn named(subject: &Type, path: &str) -> String {
    let written = text::of(subject);
    let Type::Path(kind) = subject else { return written };
    let Some(last) = kind.path.segments.last() else { return written };
    if path.rsplit("::").next() == Some(&last.ident.to_string()) {
        return format!(
            "{path}{}",
            if last.arguments.is_empty() { String::new() } else { text::of(&last.arguments) }
        );
    }
    written
}

/// The lines of what a type has of its own under `path`.
fn own(item: &ItemImpl, path: &str, before: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for part in &item.items {
        let (attrs, vis, name) = match part {
            ImplItem::Fn(part) => (&part.attrs, &part.vis, &part.sig.ident),
            ImplItem::Const(part) => (&part.attrs, &part.vis, &part.ident),
            _ => continue,
        };
        if !matches!(vis, Visibility::Public(_)) || attributes::is_hidden(attrs) {
            continue;
        }
        let path = format!("{path}::{name}");
        let said = match part {
            ImplItem::Fn(part) => items::signature(&part.sig, &path),
            ImplItem::Const(part) => format!("const {path}: {}", text::of(&part.ty)),
            _ => continue,
        };
        let text = format!("{before}{}pub {said}", attributes::noticed(attrs));
        lines.push(Line { path, rank: 0, text });
    }
    lines
}
