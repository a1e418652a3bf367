//! The paths that a module's code goes through.

use crate::rust::code;
use crate::rust::imports;
use crate::rust::tree::Module;
use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMacro, ItemUse, Macro, Path, TraitItem, Visibility};

/// A path in a module's code.
pub(super) struct Used {
    /// Its parts, from `crate`, `self`, `super` or a name that the module knows.
    pub(super) path: Vec<String>,
    /// Whether it stands in a `use`, where alone a path can end at a module.
    pub(super) is_import: bool,
    /// Where it stands in the file.
    pub(super) line: usize,
}

/// Every path in the code of `module`, its tests aside.
pub(super) fn of(module: &Module) -> Vec<Used> {
    let mut uses = Uses(Vec::new());
    for item in &module.items {
        uses.visit_item(item);
    }
    uses.0
}

struct Uses(Vec<Used>);

impl Uses {
    /// Adds the paths that stand in tokens which are not parsed: those of a macro call or an attribute.
    fn tokens(&mut self, tokens: &TokenStream, written: Written) {
        let tokens: Vec<_> = tokens.clone().into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(&group.stream(), written),
                TokenTree::Literal(literal) if written == Written::Attribute => {
                    self.quoted(&literal.to_string(), literal.span().start().line);
                }
                TokenTree::Ident(first) => {
                    let path = path_at(&tokens[at..]);
                    let parts = path.len();
                    let from_another_crate = follows_colons(&tokens[..at]);
                    let means_here = written != Written::MacroRules || first == "crate";
                    // A single name is as likely a field or a keyword.
                    if parts > 1 && means_here && !from_another_crate {
                        self.0.push(Used { path, is_import: false, line: first.span().start().line });
                    }
                    at += 3 * (parts - 1);
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Adds the path that a string of an attribute holds, as in `#[serde(with = "super::number")]`.
    fn quoted(&mut self, literal: &str, line: usize) {
        let Ok(path) = syn::parse_str::<syn::LitStr>(literal).and_then(|text| text.parse::<Path>()) else {
            return;
        };
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            // It may be a module, of which the attribute picks the functions.
            self.0.push(Used { path: parts(&path), is_import: true, line });
        }
    }
}

/// Where tokens stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Call,
    Attribute,
    /// In the rules of a macro, whose paths mean what they mean where it is called, but for those from
    /// `crate`.
    MacroRules,
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item(&mut self, item: &'ast Item) {
        if !code::is_test(code::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !code::is_test(code::attributes_in_impl(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !code::is_test(code::attributes_in_trait(item)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for import in imports::of(item) {
            self.0.push(Used { path: import.path, is_import: true, line: import.line });
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if let (None, Some(first)) = (&path.leading_colon, path.segments.first()) {
            let line = first.ident.span().start().line;
            self.0.push(Used { path: parts(path), is_import: false, line });
        }
        visit::visit_path(self, path);
    }

    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        if item.mac.path.is_ident("macro_rules") {
            self.tokens(&item.mac.tokens, Written::MacroRules);
        } else {
            visit::visit_item_macro(self, item);
        }
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.visit_path(&called.path);
        self.tokens(&called.tokens, Written::Call);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            syn::Meta::List(list) => self.tokens(&list.tokens, Written::Attribute),
            // Links in documentation are free.
            syn::Meta::NameValue(_) | syn::Meta::Path(_) => {}
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // Who may see an item is nothing that the item needs.
    }
}

fn parts(path: &Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

/// The path that `tokens` begin with: names with `::` between them.
fn path_at(tokens: &[TokenTree]) -> Vec<String> {
    let mut path = Vec::new();
    let mut rest = tokens;
    while let [TokenTree::Ident(part), after @ ..] = rest {
        path.push(Ident::to_string(part));
        match after {
            [colon, second, next @ ..] if is_colon(colon) && is_colon(second) => rest = next,
            _ => break,
        }
    }
    path
}

fn follows_colons(before: &[TokenTree]) -> bool {
    matches!(before, [.., first, second] if is_colon(first) && is_colon(second))
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':')
}
