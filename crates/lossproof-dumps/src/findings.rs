//! What is wrong with gradients, by themselves: nothing has to be known of the trainer.
//!
//! The blocks of a model are alike, so their gradients are siblings: tensors whose names differ in one number. What a
//! sibling has and another lacks is missing; one that is many times as large as its siblings is out of line.

use crate::{Gradients, State, answer::unwrapped};
use std::collections::{BTreeMap, BTreeSet};

/// Something that is wrong with gradients, or was meant to be.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// A gradient with elements that are no numbers.
    NotFinite {
        /// Name of the parameter.
        name: String,
        /// What it is.
        state: State,
    },
    /// A parameter without a gradient.
    Missing {
        /// Its name.
        name: String,
        /// Why there should be one.
        because: MissingBecause,
    },
    /// Gradients of one kind that are zero everywhere.
    Zero {
        /// Names of the parameters.
        names: Vec<String>,
        /// How many of the kind there are.
        of: usize,
    },
    /// A gradient that is many times as large, or as small, as those of its siblings.
    OutOfLine {
        /// Name of the parameter.
        name: String,
        /// Its root mean square divided by the median of its siblings'.
        factor: f64,
        /// How far the siblings are from their median at most, as a factor.
        spread: f64,
        /// How many siblings it has.
        siblings: usize,
    },
    /// Gradients that are the same to the bit.
    Equal {
        /// Names of the parameters.
        names: Vec<String>,
    },
}

/// Why a parameter should have a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingBecause {
    /// It is a parameter.
    IsAParameter,
    /// Other blocks have one.
    OthersHaveOne,
}

/// What gradients are found to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Every gradient, by the name of its parameter.
    pub states: BTreeMap<String, State>,
    /// What is wrong, the gravest first.
    pub findings: Vec<Finding>,
    /// Norm of all that is finite.
    pub norm: f64,
    /// Gradients that were held to siblings.
    pub with_siblings: usize,
}

/// A gradient has to be so many times as large as its siblings to be out of line.
const OUT_OF_LINE: f64 = 4.0;
/// Its distance has to be so many times that of the farthest sibling, in logarithms: gradients of blocks differ, and by
/// more the more blocks there are.
const BEYOND_SIBLINGS: f64 = 2.0;
/// Fewer siblings than these tell nothing.
const FEWEST_SIBLINGS: usize = 3;
/// Gradients of fewer elements may be equal by accident.
const FEWEST_ELEMENTS: usize = 4;

/// Says what gradients are. `parameters` are the names of the parameters that should have one, where they are known.
#[must_use]
pub fn inspect(gradients: &Gradients, parameters: Option<&BTreeSet<String>>) -> Inspection {
    let states: BTreeMap<String, State> =
        gradients.tensors.iter().map(|(name, tensor)| (name.clone(), State::of(tensor))).collect();
    let mut findings = Vec::new();
    for (name, state) in states.iter().filter(|(_, state)| !state.is_finite()) {
        findings.push(Finding::NotFinite { name: name.clone(), state: *state });
    }
    findings.extend(missing(&states, parameters));
    let (kinds, with_siblings) = kinds(&states);
    for members in kinds.values() {
        let zero: Vec<String> =
            members.iter().filter(|name| states[**name].is_zero()).map(|n| (*n).clone()).collect();
        if !zero.is_empty() {
            findings.push(Finding::Zero { names: zero, of: members.len() });
        }
    }
    for members in kinds.values() {
        findings.extend(out_of_line(members, &states));
    }
    findings.extend(equal(gradients, &states));
    let norm = states.values().map(|state| state.norm).fold(0.0, f64::hypot);
    Inspection { states, findings, norm, with_siblings }
}

/// A name with the numbers in it taken out: `h.*.ln_1.weight` and `[3]`.
fn split(name: &str) -> (String, Vec<usize>) {
    let mut numbers = Vec::new();
    let parts: Vec<&str> = name
        .split('.')
        .map(|part| match part.parse() {
            Ok(number) => {
                numbers.push(number);
                "*"
            }
            Err(_) => part,
        })
        .collect();
    (parts.join("."), numbers)
}

/// Names by kind, in the order of their numbers, and how many have enough siblings.
fn kinds(states: &BTreeMap<String, State>) -> (BTreeMap<String, Vec<&String>>, usize) {
    let mut numbered: BTreeMap<String, Vec<(Vec<usize>, &String)>> = BTreeMap::new();
    for name in states.keys() {
        let (kind, numbers) = split(name);
        numbered.entry(kind).or_default().push((numbers, name));
    }
    let mut kinds = BTreeMap::new();
    let mut with_siblings = 0;
    for (kind, mut members) in numbered {
        members.sort();
        if members.len() > FEWEST_SIBLINGS {
            with_siblings += members.len();
        }
        kinds.insert(kind, members.into_iter().map(|(_, name)| name).collect());
    }
    (kinds, with_siblings)
}

/// Parameters that should have a gradient and have none.
fn missing(states: &BTreeMap<String, State>, parameters: Option<&BTreeSet<String>>) -> Vec<Finding> {
    let mut missing: BTreeMap<String, MissingBecause> = BTreeMap::new();
    // What blocks there are, by what stands before their number, and what is in them.
    let mut blocks: BTreeMap<String, BTreeMap<String, BTreeSet<usize>>> = BTreeMap::new();
    for name in states.keys() {
        let (kind, numbers) = split(name);
        if let ([number], Some((before, after))) = (numbers.as_slice(), kind.split_once(".*.")) {
            let inside = blocks.entry(before.to_owned()).or_default();
            inside.entry(after.to_owned()).or_default().insert(*number);
        }
    }
    for (before, inside) in &blocks {
        let all: BTreeSet<usize> = inside.values().flatten().copied().collect();
        for (after, there) in inside {
            // What most blocks lack is special to those that have it.
            if 2 * there.len() > all.len() {
                for number in all.difference(there) {
                    missing.insert(format!("{before}.{number}.{after}"), MissingBecause::OthersHaveOne);
                }
            }
        }
    }
    // A model and its gradients may be wrapped differently.
    let there: BTreeSet<&str> = states.keys().map(|name| unwrapped(name)).collect();
    for name in parameters.into_iter().flatten().filter(|name| !there.contains(unwrapped(name))) {
        missing.insert(name.clone(), MissingBecause::IsAParameter);
    }
    missing.into_iter().map(|(name, because)| Finding::Missing { name, because }).collect()
}

/// Of the gradients of one kind, those that are many times as large or as small as the others.
fn out_of_line(members: &[&String], states: &BTreeMap<String, State>) -> Vec<Finding> {
    let sized: Vec<(&String, f64)> = members
        .iter()
        .map(|name| (*name, states[*name].root_mean_square().ln()))
        .filter(|(name, size)| states[*name].is_finite() && size.is_finite())
        .collect();
    let mut found = Vec::new();
    if sized.len() <= FEWEST_SIBLINGS {
        return found;
    }
    for (index, (name, size)) in sized.iter().enumerate() {
        let mut others: Vec<f64> =
            sized.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, o)| o.1).collect();
        others.sort_by(f64::total_cmp);
        let median = f64::midpoint(others[(others.len() - 1) / 2], others[others.len() / 2]);
        let spread = others.iter().map(|other| (other - median).abs()).fold(0.0, f64::max);
        let distance = (size - median).abs();
        if distance > OUT_OF_LINE.ln() && distance > BEYOND_SIBLINGS * spread {
            found.push(Finding::OutOfLine {
                name: (*name).clone(),
                factor: (size - median).exp(),
                spread: spread.exp(),
                siblings: others.len(),
            });
        }
    }
    found
}

/// Gradients of several parameters that are the same to the bit, and not zero: a tied parameter that is there twice, or
/// one that was written under another's name.
fn equal(gradients: &Gradients, states: &BTreeMap<String, State>) -> Vec<Finding> {
    let mut by_norm: BTreeMap<(u64, usize), Vec<&String>> = BTreeMap::new();
    for (name, state) in states {
        if state.is_finite() && !state.is_zero() && state.elements >= FEWEST_ELEMENTS {
            by_norm.entry((state.norm.to_bits(), state.elements)).or_default().push(name);
        }
    }
    let mut found = Vec::new();
    for mut names in by_norm.into_values() {
        while let Some((first, rest)) = names.split_first() {
            let same = |name: &&&String| gradients.tensors[**name] == gradients.tensors[*first];
            let alike: Vec<String> = rest.iter().filter(same).map(|name| (*name).clone()).collect();
            let others = rest.iter().filter(|name| !alike.contains(name)).copied().collect();
            if !alike.is_empty() {
                found.push(Finding::Equal { names: [vec![(*first).clone()], alike].concat() });
            }
            names = others;
        }
    }
    found
}

#[cfg(test)]
mod tests;
