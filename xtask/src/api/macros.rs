//! The lines of macros: those that others can call, and those that make items of the crate.

use super::Line;
use super::attributes;
use super::exports::{conditions_of, with};
use super::text;
use crate::rust::tree::Module;
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::{Item, ItemMacro};

/// The lines of the macros of the crate `name`.
pub(super) fn lines(name: &str, modules: &[Module]) -> Vec<Line> {
    let mut lines = Vec::new();
    let called = called(modules);
    for (here, module) in modules.iter().enumerate() {
        let conditions = conditions_of(modules, here);
        for item in &module.items {
            let Item::Macro(item) = item else { continue };
            let Some(own) = &item.ident else {
                lines.extend(call(name, item));
                continue;
            };
            let path = format!("{name}::{own}!");
            let before = attributes::with_blanks(&with(&conditions, attributes::conditions(&item.attrs)));
            let is_exported = item.attrs.iter().any(|one| one.path().is_ident("macro_export"));
            if is_exported && !attributes::is_hidden(&item.attrs) {
                for (matcher, _) in rules(item) {
                    // What begins with @ is what a macro calls itself with.
                    if !starts_with_at(&matcher) {
                        lines.push(line(&path, format!("{before}macro {path} {}", group(&matcher))));
                    }
                }
            } else if called.contains(&own.to_string()) {
                for (_, template) in rules(item) {
                    for head in heads(template.stream()) {
                        lines.push(line(&path, format!("made by {path} {head}")));
                    }
                }
            }
        }
    }
    lines
}

fn line(path: &str, text: String) -> Line {
    Line { path: path.to_owned(), rank: 0, text }
}

/// The macros that are called where items stand.
fn called(modules: &[Module]) -> BTreeSet<String> {
    let mut called = BTreeSet::new();
    for item in modules.iter().flat_map(|module| &module.items) {
        if let Item::Macro(ItemMacro { ident: None, mac, .. }) = item {
            called.extend(mac.path.segments.last().map(|segment| segment.ident.to_string()));
        }
    }
    called
}

/// The line of a call that makes items.
fn call(name: &str, item: &ItemMacro) -> Option<Line> {
    let called = item.mac.path.segments.last()?.ident.to_string();
    let path = format!("{name}::{called}!");
    Some(line(&path, format!("called {path} {}", text::of(&item.mac.tokens))))
}

/// What each rule of a macro matches, and what it makes.
fn rules(item: &ItemMacro) -> Vec<(Group, Group)> {
    let mut groups = item.mac.tokens.clone().into_iter().filter_map(|token| match token {
        TokenTree::Group(group) => Some(group),
        _ => None,
    });
    let mut rules = Vec::new();
    while let (Some(matcher), Some(template)) = (groups.next(), groups.next()) {
        rules.push((matcher, template));
    }
    rules
}

fn starts_with_at(matcher: &Group) -> bool {
    matches!(matcher.stream().into_iter().next(), Some(TokenTree::Punct(punct)) if punct.as_char() == '@')
}

/// The heads of what a template makes: from `impl` or `pub` to the brace of the body, or the semicolon.
fn heads(template: TokenStream) -> Vec<String> {
    let mut heads = Vec::new();
    let mut head: Option<Vec<TokenTree>> = None;
    for token in template {
        let starts = matches!(&token, TokenTree::Ident(word) if word == "impl" || word == "pub");
        let body = match &token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group.stream()),
            _ => None,
        };
        let ends = body.is_some() || matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ';');
        if ends {
            heads.extend(head.take().map(|head| text::of(&TokenStream::from_iter(head))));
            // Inside an `impl` are functions; the bodies of functions have neither `impl` nor `pub` in them.
            heads.extend(body.map_or_else(Vec::new, self::heads));
        } else if let Some(head) = &mut head {
            head.push(token);
        } else if starts {
            head = Some(vec![token]);
        }
    }
    heads
}

/// A group as it is written.
fn group(group: &Group) -> String {
    text::one_line(&group.span().source_text().unwrap_or_default())
}
