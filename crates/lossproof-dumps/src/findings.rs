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
        /// How far half of the siblings are from the median at most, as a factor.
        spread: f64,
        /// How many siblings it has.
        siblings: usize,
    },
    /// Gradients that are the same to the bit.
    Equal {
        /// Names of the parameters.
        names: Vec<String>,
        /// Whether they are matrices: two biases that are added to one sum have one gradient.
        matrices: bool,
    },
}

/// Why a parameter should have a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingBecause {
    /// It is a parameter.
    IsAParameter,
    /// Other blocks have one, and this block has another parameter of the same layer, or nothing at all.
    OthersHaveOne,
    /// Other blocks have the layer, and this one has nothing of it.
    OthersHaveTheLayer,
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

/// A gradient between others has to be so many times as large as its siblings to be out of line.
const OUT_OF_LINE: f64 = 7.0;
/// The first and the last block differ from the others by more: one meets the embedding, the other the head.
const OUT_OF_LINE_AT_THE_EDGE: f64 = 50.0;
/// Its distance has to be so many times that of the median sibling, in logarithms: gradients of blocks differ, and by
/// more the more blocks there are. Several that are out of line do not hide each other from a median.
const BEYOND_SIBLINGS: f64 = 6.0;
/// Fewer siblings than these tell nothing.
const FEWEST_SIBLINGS: usize = 3;
/// Gradients of fewer elements may be equal by accident.
const FEWEST_ELEMENTS: usize = 4;

impl Finding {
    /// What kind of finding it is, in a word: the same in every report.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFinite { .. } => "not-finite",
            Self::Missing { .. } => "missing",
            Self::Zero { .. } => "zero",
            Self::OutOfLine { .. } => "out-of-line",
            Self::Equal { .. } => "equal",
        }
    }

    /// The parameters that it is about.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::NotFinite { name, .. } | Self::Missing { name, .. } | Self::OutOfLine { name, .. } => {
                vec![name]
            }
            Self::Zero { names, .. } | Self::Equal { names, .. } => {
                names.iter().map(String::as_str).collect()
            }
        }
    }

    /// Whether something is certainly wrong. Biases that are equal because they are added to one sum, and blocks
    /// without a layer that others have, may be meant so.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        match self {
            Self::NotFinite { .. } | Self::Zero { .. } | Self::OutOfLine { .. } => true,
            Self::Missing { because, .. } => *because != MissingBecause::OthersHaveTheLayer,
            Self::Equal { matrices, .. } => *matrices,
        }
    }
}

impl Inspection {
    /// Whether something is certainly wrong.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.findings.iter().any(Finding::is_certain)
    }
}

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
    let kinds = kinds(&states);
    for members in kinds.values() {
        let zero: Vec<String> =
            members.iter().filter(|name| states[**name].is_zero()).map(|n| (*n).clone()).collect();
        if !zero.is_empty() {
            findings.push(Finding::Zero { names: zero, of: members.len() });
        }
    }
    let mut with_siblings = 0;
    for members in kinds.values() {
        let (held, out) = out_of_line(members, gradients, &states);
        with_siblings += held;
        findings.extend(out);
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

/// Names by kind, in the order of their numbers.
fn kinds(states: &BTreeMap<String, State>) -> BTreeMap<String, Vec<&String>> {
    let mut numbered: BTreeMap<String, Vec<(Vec<usize>, &String)>> = BTreeMap::new();
    for name in states.keys() {
        let (kind, numbers) = split(name);
        numbered.entry(kind).or_default().push((numbers, name));
    }
    let mut kinds = BTreeMap::new();
    for (kind, mut members) in numbered {
        members.sort();
        kinds.insert(kind, members.into_iter().map(|(_, name)| name).collect());
    }
    kinds
}

/// Parameters that should have a gradient and have none. Where the parameters are known, they alone say it.
fn missing(states: &BTreeMap<String, State>, parameters: Option<&BTreeSet<String>>) -> Vec<Finding> {
    let mut missing: BTreeMap<String, MissingBecause> = BTreeMap::new();
    if let Some(parameters) = parameters {
        // A model and its gradients may be wrapped differently.
        let there: BTreeSet<String> = states.keys().map(|name| unwrapped(name)).collect();
        for name in parameters.iter().filter(|name| !there.contains(&unwrapped(name))) {
            missing.insert(name.clone(), MissingBecause::IsAParameter);
        }
    } else {
        missing_in_blocks(states, &mut missing);
    }
    missing.into_iter().map(|(name, because)| Finding::Missing { name, because }).collect()
}

/// What most blocks have and one lacks.
fn missing_in_blocks(states: &BTreeMap<String, State>, missing: &mut BTreeMap<String, MissingBecause>) {
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
        let there: BTreeSet<usize> = inside.values().flatten().copied().collect();
        let (Some(first), Some(last)) = (there.first(), there.last()) else { continue };
        // Where all blocks are alike, a number that is left out is a block without gradients. Layers of a sequence
        // that have no parameters leave numbers out, too, but are not alike.
        let alike = there.len() > FEWEST_SIBLINGS && inside.values().all(|numbers| *numbers == there);
        let all: BTreeSet<usize> = if alike { (*first..=*last).collect() } else { there.clone() };
        for (after, numbers) in inside {
            // What most blocks lack is special to those that have it.
            if 2 * numbers.len() <= all.len() {
                continue;
            }
            for number in all.difference(numbers) {
                let same_layer = inside
                    .iter()
                    .any(|(other, there)| there.contains(number) && layer(other) == layer(after));
                let because = if !there.contains(number) || same_layer {
                    MissingBecause::OthersHaveOne
                } else {
                    MissingBecause::OthersHaveTheLayer
                };
                missing.insert(format!("{before}.{number}.{after}"), because);
            }
        }
    }
}

/// The layer that a parameter is of: its name without the last word.
fn layer(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(layer, _)| layer)
}

/// Of the gradients of one kind, how many were held to the others, and those that are many times as large or as small.
fn out_of_line(
    members: &[&String],
    gradients: &Gradients,
    states: &BTreeMap<String, State>,
) -> (usize, Vec<Finding>) {
    let mut sized: Vec<(&String, f64)> = Vec::new();
    for name in members {
        let size = states[*name].root_mean_square().ln();
        if states[*name].is_finite() && size.is_finite() {
            sized.push((name, size));
        }
    }
    let shape = |name: &String| gradients.tensors[name].shape();
    let one_shape = members.windows(2).all(|pair| shape(pair[0]) == shape(pair[1]));
    if sized.len() <= FEWEST_SIBLINGS || !one_shape {
        return (0, Vec::new());
    }
    let centre = median(sized.iter().map(|(_, size)| *size).collect());
    let spread = median(sized.iter().map(|(_, size)| (size - centre).abs()).collect());
    let mut found = Vec::new();
    for (index, (name, size)) in sized.iter().enumerate() {
        let at_the_edge = index == 0 || index + 1 == sized.len();
        let factor = if at_the_edge { OUT_OF_LINE_AT_THE_EDGE } else { OUT_OF_LINE };
        let distance = (size - centre).abs();
        if distance > factor.ln() && distance > BEYOND_SIBLINGS * spread {
            found.push(Finding::OutOfLine {
                name: (*name).clone(),
                factor: (size - centre).exp(),
                spread: spread.exp(),
                siblings: sized.len() - 1,
            });
        }
    }
    (sized.len(), found)
}

/// The number in the middle; of two the one between them.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
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
                let matrices = gradients.tensors[*first].shape().len() > 1;
                found.push(Finding::Equal { names: [vec![(*first).clone()], alike].concat(), matrices });
            }
            names = others;
        }
    }
    found
}

#[cfg(test)]
mod tests;
