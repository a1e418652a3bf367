//! Arrows between siblings, and the circles in them.

use super::Arrow;
use crate::rust::tree::Module;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// An arrow between two modules with the same parent, and the first place that makes it one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The module that names something: `from` or below it.
    pub(super) named_in: usize,
    pub(super) line: usize,
}

/// Siblings each of which leads to each of the others.
pub(super) struct Knot {
    /// A shortest circle of them; the last arrow leads back to where the first begins.
    pub(super) circle: Vec<Edge>,
    /// Those that are not on it.
    pub(super) others: Vec<usize>,
}

/// The arrows between siblings, by their two ends.
pub(super) struct Edges(BTreeMap<usize, BTreeMap<usize, Edge>>);

impl Edges {
    /// Every arrow of `arrows` as one between two children of the innermost module that both ends lie in.
    pub(super) fn between_siblings(modules: &[Module], arrows: &[Arrow]) -> Self {
        let mut edges = Self(BTreeMap::new());
        for arrow in arrows {
            if let Some((from, to)) = siblings(modules, arrow) {
                let edge = Edge { from, to, named_in: arrow.from, line: arrow.line };
                edges.0.entry(from).or_default().entry(to).or_insert(edge);
            }
        }
        edges
    }

    /// How many pairs have an arrow between them.
    pub(super) fn count(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Every knot, in the order in which their first modules are declared.
    pub(super) fn knots(&self) -> Vec<Knot> {
        let mut knots = Vec::new();
        let mut seen = BTreeSet::new();
        for &start in self.0.keys() {
            if seen.contains(&start) {
                continue;
            }
            let mut members = self.reached(start);
            members.retain(|&member| self.reached(member).contains(&start));
            if members.is_empty() {
                continue;
            }
            let circles = members.iter().filter_map(|&member| self.shortest_circle(member));
            if let Some(circle) = circles.min_by_key(Vec::len) {
                let on_it: BTreeSet<_> = circle.iter().map(|edge| edge.from).collect();
                knots.push(Knot { circle, others: members.difference(&on_it).copied().collect() });
            }
            seen.extend(members);
        }
        knots
    }

    fn edges_from(&self, module: usize) -> impl Iterator<Item = Edge> {
        self.0.get(&module).into_iter().flat_map(BTreeMap::values).copied()
    }

    /// What the arrows lead to from `start`, itself only if they lead back.
    fn reached(&self, start: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![start];
        while let Some(module) = open.pop() {
            for edge in self.edges_from(module) {
                if reached.insert(edge.to) {
                    open.push(edge.to);
                }
            }
        }
        reached
    }

    /// A shortest way from `start` back to it.
    fn shortest_circle(&self, start: usize) -> Option<Vec<Edge>> {
        let mut reached_by: BTreeMap<usize, Edge> = BTreeMap::new();
        let mut open = VecDeque::from([start]);
        while let Some(module) = open.pop_front() {
            for edge in self.edges_from(module) {
                if reached_by.contains_key(&edge.to) {
                    continue;
                }
                reached_by.insert(edge.to, edge);
                open.push_back(edge.to);
            }
        }
        let mut last = *reached_by.get(&start)?;
        let mut circle = vec![last];
        while last.from != start {
            last = reached_by[&last.from];
            circle.push(last);
        }
        circle.reverse();
        Some(circle)
    }
}

/// The two children of the innermost module that holds both ends; `None` where one end lies in the other.
fn siblings(modules: &[Module], arrow: &Arrow) -> Option<(usize, usize)> {
    let from = line_of_descent(modules, arrow.from);
    let to = line_of_descent(modules, arrow.to);
    from.into_iter().zip(to).find(|(from, to)| from != to)
}

/// The modules from the crate's root to `module`.
fn line_of_descent(modules: &[Module], module: usize) -> Vec<usize> {
    let mut line = vec![module];
    let mut here = module;
    while let Some(parent) = modules[here].parent {
        line.push(parent);
        here = parent;
    }
    line.reverse();
    line
}
