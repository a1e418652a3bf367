//! The lines of what others can name: items, their fields, variants and what a trait asks for.

use super::Line;
use super::attributes::{self, noticed, noticed_but_conditions, with_blanks};
use super::exports::{Export, Exports, What};
use super::text;
use crate::rust::tree::Module;
use syn::{Field, Fields, Generics, Item, ItemEnum, ItemStruct, ItemTrait, TraitItem, Visibility};

/// The lines of everything that is exported. What has several paths is told under the shortest of them.
pub(super) fn lines(modules: &[Module], exports: &Exports) -> Vec<Line> {
    let mut lines = Vec::new();
    for export in &exports.all {
        let conditions = with_blanks(&export.conditions);
        let mut told = Told { path: &export.path, conditions, lines: &mut lines };
        match &export.what {
            What::Module => told.line(&export.path, &format!("pub mod {}", export.path)),
            What::Foreign(path) => told.line(&export.path, &renamed(export, &path.join("::"))),
            What::Item(module, item) => match exports.path(*module, *item) {
                Some(path) if path != export.path => told.line(&export.path, &renamed(export, path)),
                _ => told.item(&modules[*module].items[*item]),
            },
        }
    }
    lines
}

/// A line for what has another path than the one it is told under.
fn renamed(export: &Export, told: &str) -> String {
    format!("pub use {told} as {}", export.path)
}

/// An item that is being told.
struct Told<'a> {
    path: &'a str,
    /// The conditions under which it is there, each with a blank behind it.
    conditions: String,
    lines: &'a mut Vec<Line>,
}

impl Told<'_> {
    fn line(&mut self, path: &str, text: &str) {
        let text = format!("{}{text}", self.conditions);
        self.lines.push(Line { path: path.to_owned(), rank: 0, text });
    }

    fn item(&mut self, item: &Item) {
        let path = self.path;
        match item {
            Item::Const(item) => self.line(path, &format!("pub const {path}: {}", text::of(&*item.ty))),
            Item::Static(item) => self.line(path, &format!("pub static {path}: {}", text::of(&*item.ty))),
            Item::Fn(item) => {
                let kept = noticed_but_conditions(&item.attrs);
                self.line(path, &format!("{kept}pub {}", signature(&item.sig, path)));
            }
            Item::Type(item) => {
                let (generics, bounds) = (text::generics(&item.generics), text::bounds(&item.generics));
                self.line(path, &format!("pub type {path}{generics}{bounds} = {}", text::of(&*item.ty)));
            }
            Item::Struct(item) => self.structure(item),
            Item::Enum(item) => self.enumeration(item),
            Item::Trait(item) => self.interface(item),
            // There is none, and what is exported has to have a line.
            other => self.line(path, &format!("pub {}", text::of(other))),
        }
    }

    fn structure(&mut self, item: &ItemStruct) {
        let path = self.path;
        let fields = match &item.fields {
            Fields::Named(fields) if !fields.named.iter().all(is_told) => " { .. }".to_owned(),
            Fields::Unnamed(fields) => {
                let told = |field: &Field| {
                    if is_told(field) { format!("pub {}", text::of(&field.ty)) } else { "_".to_owned() }
                };
                let types: Vec<_> = fields.unnamed.iter().map(told).collect();
                format!("({})", types.join(", "))
            }
            _ => String::new(),
        };
        self.head("struct", &item.attrs, &item.generics, &fields);
        for field in item.fields.iter().filter(|field| is_told(field)) {
            if let Some(name) = &field.ident {
                let path = format!("{path}::{name}");
                let kept = noticed(&field.attrs);
                self.line(&path, &format!("{kept}pub {path}: {}", text::of(&field.ty)));
            }
        }
    }

    fn enumeration(&mut self, item: &ItemEnum) {
        self.head("enum", &item.attrs, &item.generics, "");
        for variant in item.variants.iter().filter(|variant| !attributes::is_hidden(&variant.attrs)) {
            let fields: Vec<_> = variant.fields.iter().map(field).collect();
            let fields = match &variant.fields {
                Fields::Named(_) => format!(" {{ {} }}", fields.join(", ")),
                Fields::Unnamed(_) => format!("({})", fields.join(", ")),
                Fields::Unit => String::new(),
            };
            let value = variant.discriminant.as_ref();
            let value = value.map_or_else(String::new, |(_, value)| format!(" = {}", text::of(value)));
            let path = format!("{}::{}", self.path, variant.ident);
            self.line(&path, &format!("{}{path}{fields}{value}", noticed(&variant.attrs)));
        }
    }

    fn interface(&mut self, item: &ItemTrait) {
        let above: Vec<_> = item.supertraits.iter().map(text::of).collect();
        let above = if above.is_empty() { String::new() } else { format!(": {}", above.join(" + ")) };
        self.head("trait", &item.attrs, &item.generics, &above);
        for asked in &item.items {
            let (name, attrs, mut said, is_provided) = match asked {
                TraitItem::Fn(asked) => {
                    let path = format!("{}::{}", self.path, asked.sig.ident);
                    (&asked.sig.ident, &asked.attrs, signature(&asked.sig, &path), asked.default.is_some())
                }
                TraitItem::Const(asked) => {
                    let said = format!("const {}::{}: {}", self.path, asked.ident, text::of(&asked.ty));
                    (&asked.ident, &asked.attrs, said, asked.default.is_some())
                }
                TraitItem::Type(asked) => {
                    let bounds: Vec<_> = asked.bounds.iter().map(text::of).collect();
                    let said = format!("type {}::{}: {}", self.path, asked.ident, bounds.join(" + "));
                    (&asked.ident, &asked.attrs, said, asked.default.is_some())
                }
                _ => continue,
            };
            if is_provided {
                said.push_str(" { .. }");
            }
            let path = format!("{}::{name}", self.path);
            self.line(&path, &format!("{}{said}", noticed(attrs)));
        }
    }

    /// The line of the item itself.
    fn head(&mut self, kind: &str, attrs: &[syn::Attribute], generics: &Generics, behind: &str) {
        let (path, kept) = (self.path, noticed_but_conditions(attrs));
        let (parameters, bounds) = (text::generics(generics), text::bounds(generics));
        self.line(path, &format!("{kept}pub {kind} {path}{parameters}{behind}{bounds}"));
    }
}

/// The head of a function under `path`.
pub(super) fn signature(signature: &syn::Signature, path: &str) -> String {
    let name = &signature.ident;
    let told = text::of(signature).replacen(&format!("fn {name}"), &format!("fn {path}"), 1);
    told.trim_end_matches(',').to_owned()
}

/// The field of a variant.
fn field(field: &Field) -> String {
    let name = field.ident.as_ref().map_or_else(String::new, |name| format!("{name}: "));
    format!("{}{name}{}", noticed(&field.attrs), text::of(&field.ty))
}

/// Whether others can name the field of a struct.
fn is_told(field: &Field) -> bool {
    matches!(field.vis, Visibility::Public(_)) && !attributes::is_hidden(&field.attrs)
}
