//! What `use` brings into a module, one name at a time.

use syn::{Ident, ItemUse, UseTree};

/// One name of a `use`, or one `*`.
pub(crate) struct Import {
    /// The path that is imported, without the `*`.
    pub(crate) path: Vec<String>,
    /// The name it has here; `None` where it gets none, as with `*` and `as _`.
    pub(crate) name: Option<String>,
    /// Whether everything below the path is imported.
    pub(crate) is_glob: bool,
    /// Where the name stands in the file.
    pub(crate) line: usize,
}

/// The imports of one `use`. From another crate (`use ::name`) there are none.
pub(crate) fn of(item: &ItemUse) -> Vec<Import> {
    let mut imports = Vec::new();
    if item.leading_colon.is_none() {
        collect(&item.tree, &[], &mut imports);
    }
    imports
}

fn collect(tree: &UseTree, prefix: &[String], imports: &mut Vec<Import>) {
    match tree {
        UseTree::Path(path) => collect(&path.tree, &extended(prefix, &path.ident), imports),
        UseTree::Name(name) => imports.push(named(prefix, &name.ident, None)),
        UseTree::Rename(rename) => imports.push(named(prefix, &rename.ident, Some(&rename.rename))),
        UseTree::Glob(glob) => imports.push(Import {
            path: prefix.to_vec(),
            name: None,
            is_glob: true,
            line: glob.star_token.spans[0].start().line,
        }),
        UseTree::Group(group) => {
            for tree in &group.items {
                collect(tree, prefix, imports);
            }
        }
    }
}

fn extended(prefix: &[String], last: &Ident) -> Vec<String> {
    let mut path = prefix.to_vec();
    path.push(last.to_string());
    path
}

/// The import of `ident`, which is `self` where the prefix itself is meant.
fn named(prefix: &[String], ident: &Ident, renamed: Option<&Ident>) -> Import {
    let means_prefix = ident == "self" && !prefix.is_empty();
    let path = if means_prefix { prefix.to_vec() } else { extended(prefix, ident) };
    let name = renamed.map_or_else(|| path.last().cloned(), |renamed| Some(renamed.to_string()));
    Import { path, name: name.filter(|name| name != "_"), is_glob: false, line: ident.span().start().line }
}
