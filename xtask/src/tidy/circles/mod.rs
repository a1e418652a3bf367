//! No circles between the modules of a crate.
//!
//! An arrow goes from a module that names something to the module that defines it, whatever re-exports lie
//! between. At every level of the tree of modules it counts as an arrow between siblings: from `a::x` to
//! `b::y` it is one from `a` to `b`. A module and its own descendants are one thing seen from outside, so
//! that arrows between them are no matter of this rule: a parent gathers what its children make, and children
//! use what their parent's file declares for all of them. Test code may look anywhere.
//!
//! What is read is the text. Methods that are called on a value name no module, and macros that come into
//! scope by their place in the text are not followed.

mod graph;
mod uses;

use super::Package;
use crate::rust::names::Names;
use crate::rust::tree::{self, Module};
use graph::{Edges, Knot};
use std::path::Path;

/// Where a module names something of another.
struct Arrow {
    from: usize,
    to: usize,
    line: usize,
}

/// What was found in all crates.
pub(super) struct Circles {
    /// One line for each circle, and for each crate whose modules cannot be read.
    pub(super) findings: Vec<String>,
    /// How many pairs of sibling modules have an arrow between them.
    pub(super) arrows: usize,
}

/// Looks for circles in each library and program of `packages`. `text` is what stands in a file, relative to
/// the root.
pub(super) fn check(packages: &[Package], text: &dyn Fn(&Path) -> Option<String>) -> Circles {
    let mut circles = Circles { findings: Vec::new(), arrows: 0 };
    for package in packages {
        let folder = package.manifest.parent().unwrap_or(Path::new(""));
        for root in &package.roots {
            match tree::read(root, text) {
                Ok(modules) => circles.add(folder, &modules),
                Err(what) => circles.findings.push(format!("{}: {what}", folder.display())),
            }
        }
    }
    circles
}

impl Circles {
    /// Adds what there is in the crate that has these modules.
    fn add(&mut self, folder: &Path, modules: &[Module]) {
        let edges = Edges::between_siblings(modules, &arrows(modules));
        self.arrows += edges.count();
        self.findings.extend(edges.knots().iter().map(|knot| finding(folder, modules, knot)));
    }
}

/// The line for a knot in the crate whose package lies in `folder`.
fn finding(folder: &Path, modules: &[Module], knot: &Knot) -> String {
    let mut circle = vec![modules[knot.circle[0].from].name()];
    for edge in &knot.circle {
        let file = &modules[edge.named_in].file;
        let file = file.strip_prefix(folder).unwrap_or(file).display();
        circle.push(format!("{} ({file}:{})", modules[edge.to].name(), edge.line));
    }
    let others: Vec<_> = knot.others.iter().map(|other| modules[*other].name()).collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!("; in circles with these: {}", others.join(", "))
    };
    format!(
        "{}: circle {}: move what both need into a third module{others}",
        folder.display(),
        circle.join(" -> ")
    )
}

/// Every arrow of a crate, in the order in which its modules are declared.
fn arrows(modules: &[Module]) -> Vec<Arrow> {
    let names = Names::of(modules);
    let mut arrows = Vec::new();
    for (from, module) in modules.iter().enumerate() {
        for used in uses::of(module) {
            for to in names.targets(from, &used.path, used.is_import) {
                arrows.push(Arrow { from, to, line: used.line });
            }
        }
    }
    arrows
}

#[cfg(test)]
mod tests;
