//! What a build reads and its package lacks.

use super::published::Published;
use crate::rust::code;
use crate::rust::tree;
use proc_macro2::TokenTree;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{ImplItem, Item, LitStr, Macro};

/// The macros that read a file.
const READERS: [&str; 3] = ["include", "include_bytes", "include_str"];

/// One line for each file that is compiled in, or a module, and that is not among the files of the package.
pub(super) fn missing(published: &Published, listed: &[String]) -> Vec<String> {
    let files: BTreeSet<_> = listed.iter().map(PathBuf::from).collect();
    let text = |path: &Path| {
        let inside = files.contains(path).then(|| published.folder.join(path))?;
        fs::read_to_string(inside).ok()
    };
    let mut missing = Vec::new();
    for root in &published.roots {
        let root = root.strip_prefix(&published.folder).unwrap_or(root);
        missing.extend(missing_from(root, &files, &text));
    }
    missing
}

/// The same for what starts with the file `root`. Paths are relative to the package.
fn missing_from(
    root: &Path,
    files: &BTreeSet<PathBuf>,
    text: &dyn Fn(&Path) -> Option<String>,
) -> Vec<String> {
    let modules = match tree::read(root, text) {
        Ok(modules) => modules,
        Err(what) => return vec![what],
    };
    let mut missing = Vec::new();
    for module in &modules {
        let mut read = Read(Vec::new());
        for attribute in &module.attributes {
            read.visit_attribute(attribute);
        }
        for item in &module.items {
            read.visit_item(item);
        }
        let folder = module.file.parent().unwrap_or(Path::new(""));
        for (line, named) in read.0 {
            let place = format!("{}:{line}", module.file.display());
            match named {
                None => missing
                    .push(format!("{place} reads a file whose path is no literal: nobody can tell which")),
                Some(named) => {
                    if !inside(folder, &named).is_some_and(|path| files.contains(&path)) {
                        missing.push(format!("{place} reads {named}, which is not in the package"));
                    }
                }
            }
        }
    }
    missing
}

/// Where `named` leads from `folder`; `None` where that is outside the package.
fn inside(folder: &Path, named: &str) -> Option<PathBuf> {
    let mut path = folder.to_owned();
    for part in Path::new(named).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// The files that code reads while it is compiled, its tests aside: the line, and a path that is a literal.
struct Read(Vec<(usize, Option<String>)>);

impl<'ast> Visit<'ast> for Read {
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

    fn visit_macro(&mut self, called: &'ast Macro) {
        if let Some(name) = called.path.segments.last()
            && READERS.iter().any(|reader| name.ident == reader)
        {
            self.reads(name.ident.span().start().line, called.tokens.clone());
        }
        self.tokens(called.tokens.clone());
    }
}

impl Read {
    fn reads(&mut self, line: usize, argument: proc_macro2::TokenStream) {
        let literal = syn::parse2::<LitStr>(argument).ok();
        self.0.push((line, literal.map(|literal| literal.value())));
    }

    /// What is read inside the tokens of another macro.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match (token, tokens.get(at + 1), tokens.get(at + 2)) {
                (TokenTree::Ident(name), Some(TokenTree::Punct(punct)), Some(TokenTree::Group(argument)))
                    if punct.as_char() == '!' && READERS.iter().any(|reader| name == reader) =>
                {
                    self.reads(name.span().start().line, argument.stream());
                }
                (TokenTree::Group(group), ..) => self.tokens(group.stream()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a package of these files lacks.
    fn missing(files: &[(&str, &str)]) -> Vec<String> {
        let listed = files.iter().map(|(name, _)| PathBuf::from(name)).collect();
        let text = |path: &Path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        };
        missing_from(Path::new("src/lib.rs"), &listed, &text)
    }

    #[test]
    fn what_is_inside_is_not_missing() {
        let lib = "mod a;\n#[cfg(test)]\nmod tests { const T: &str = include_str!(\"../../../t\"); }\n";
        let a = "//! A.\n#![doc = include_str!(\"../../README.md\")]\n\
                 const B: &[u8] = include_bytes!(\"../b\");\n";
        assert!(
            missing(&[("src/lib.rs", lib), ("src/a/mod.rs", a), ("README.md", ""), ("src/b", "")]).is_empty()
        );
    }

    #[test]
    fn what_is_outside_is_named_with_its_place() {
        let lib = "fn f() -> Vec<&'static str> {\n    vec![include_str!(\"../b\")]\n}\n\
                   const A: &str = include_str!(\"../../../README.md\");\n\
                   const C: &str = include_str!(concat!(\"a\", \"b\"));\n";
        assert_eq!(
            missing(&[("src/lib.rs", lib), ("README.md", "of another folder")]),
            [
                "src/lib.rs:2 reads ../b, which is not in the package",
                "src/lib.rs:4 reads ../../../README.md, which is not in the package",
                "src/lib.rs:5 reads a file whose path is no literal: nobody can tell which",
            ]
        );
    }

    #[test]
    fn a_module_outside_is_missing() {
        let missing = missing(&[("src/lib.rs", "#[path = \"../../other/src/a.rs\"]\nmod a;\n")]);
        assert!(missing[0].contains("../../other/src/a.rs"), "{missing:?}");
    }
}
