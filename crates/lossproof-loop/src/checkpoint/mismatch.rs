//! What a run differs in from the one that a checkpoint is of.

use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A run that differs from the one a checkpoint is of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint is of another run: {}", list(differences))]
pub struct Mismatch {
    /// All that differs.
    pub differences: Vec<Difference>,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// What the checkpoint has.
    pub kept: String,
    /// What was given.
    pub given: String,
}

impl Mismatch {
    /// Whether two pairs of settings and environment are the same.
    pub(super) fn between(
        kept: &(impl Serialize, impl Serialize),
        given: &(impl Serialize, impl Serialize),
    ) -> Result<(), Self> {
        let [mut there, mut here] = [BTreeMap::new(), BTreeMap::new()];
        flatten(&kept.0, &mut there);
        flatten(&kept.1, &mut there);
        flatten(&given.0, &mut here);
        flatten(&given.1, &mut here);
        let names: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
        let mut differences = Vec::new();
        for name in names {
            let of = |all: &BTreeMap<String, String>| all.get(name).map_or("none", String::as_str).to_owned();
            let (kept, given) = (of(&there), of(&here));
            if kept != given {
                differences.push(Difference { name: name.clone(), kept, given });
            }
        }
        if differences.is_empty() { Ok(()) } else { Err(Self { differences }) }
    }
}

/// Collects the names and values in a value's JSON, nested names joined by points.
fn flatten(value: &impl Serialize, into: &mut BTreeMap<String, String>) {
    if let Ok(value) = serde_json::to_value(value) {
        walk("", &value, into);
    }
}

fn walk(name: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                walk(&name, value, into);
            }
        }
        Value::Null => {}
        Value::String(text) => drop(into.insert(name.to_owned(), text.clone())),
        other => drop(into.insert(name.to_owned(), other.to_string())),
    }
}

fn list(differences: &[Difference]) -> String {
    let of = |one: &Difference| format!("{} was {}, now {}", one.name, one.kept, one.given);
    differences.iter().map(of).collect::<Vec<_>>().join("; ")
}
