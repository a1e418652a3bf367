//! The declared failures of a subject, edited with their comments.

use super::{
    Broken, ContentFault, DeclaredUnit, Outcome,
    broken::Units,
    difference::Difference,
    outcome::{self, Replay},
    read::{Located, TO_BE_WRITTEN},
};
use num_traits::ToPrimitive;
use std::mem;
use toml_edit::{Array, ArrayOfTables, InlineTable, Item, Table, Value};

/// The declared failures of a subject, out of its table while they are edited.
pub(super) struct Declarations(ArrayOfTables);

impl Declarations {
    pub(super) fn take(own: &mut Table) -> Result<Self, Located> {
        let Some(item) = own.get_mut("fails") else {
            return Ok(Self(ArrayOfTables::new()));
        };
        mem::take(item).into_array_of_tables().map(Self).map_err(|_| Located {
            bytes: 0..0,
            fault: ContentFault::Form("`fails` is no list of tables".to_owned()),
        })
    }

    pub(super) fn give_back(self, own: &mut Table) {
        if self.0.is_empty() {
            own.remove("fails");
        } else {
            own["fails"] = Item::ArrayOfTables(self.0);
        }
    }

    fn position(&self, law: &str) -> Option<usize> {
        self.0.iter().position(|declared| declared.get("law").and_then(Item::as_str) == Some(law))
    }

    /// Keeps the declaration of a law whose declared case still shows what is declared, with the units that
    /// fail now. Whether there is such a declaration.
    pub(super) fn keep(&mut self, outcome: &Outcome) -> bool {
        let Some(declared) = self.position(outcome.law).and_then(|index| self.0.get_mut(index)) else {
            return false;
        };
        let error = declared.get("error").and_then(Item::as_str);
        let errs = error.is_some();
        let as_declared = outcome.replay.as_ref().is_some_and(|replay| outcome::holds(error, replay));
        if !as_declared || outcome.undeclared_error(error).is_some() {
            return false;
        }
        let units = units(declared);
        let difference = Difference::of(&units, outcome);
        if !difference.is_none() {
            set_units(declared, &difference.settle(&units, outcome));
            // The reason was not given for some units where there were none, but for an error alone.
            if !units.is_empty() || difference.is_new() && errs {
                question(declared);
            }
        }
        true
    }

    pub(super) fn remove(&mut self, law: &str) {
        if let Some(index) = self.position(law) {
            self.0.remove(index);
        }
    }

    /// Declares that the law fails on a case. A reason that was written for another case or error is quoted,
    /// because whoever wrote it has to say whether it is still why.
    pub(super) fn declare(&mut self, outcome: &Outcome, case: &str) {
        let index = self.position(outcome.law).unwrap_or_else(|| {
            let mut declared = Table::new();
            set(&mut declared, "law", Value::from(outcome.law));
            self.0.push(declared);
            self.0.len() - 1
        });
        let Some(declared) = self.0.get_mut(index) else { return };
        question(declared);
        set(declared, "case", Value::from(case));
        match outcome.error.as_deref().and_then(|error| error.lines().next()) {
            Some(error) => set(declared, "error", Value::from(error)),
            None => {
                declared.remove("error");
            }
        }
        let mut units = outcome.broken.declaration();
        // A crash is declared in place of what the former case showed, which is still there.
        let former = match (&outcome.error, &outcome.replay) {
            (Some(_), Some(Replay::Fails(broken))) => Some(broken),
            _ => None,
        };
        for unit in former.into_iter().chain([&outcome.elsewhere]).flat_map(Broken::units) {
            units.entry(unit.to_owned()).or_default();
        }
        set_units(declared, &units);
    }
}

/// Leaves the reason of a declaration to be written, or to be thought about again.
fn question(declared: &mut Table) {
    let former = declared.get("reason").and_then(Item::as_str).unwrap_or_default().to_owned();
    let reason = if former.starts_with(TO_BE_WRITTEN) {
        former
    } else if former.is_empty() {
        format!("{TO_BE_WRITTEN}: why is this law broken?")
    } else {
        format!("{TO_BE_WRITTEN}: is this still why? {former}")
    };
    set(declared, "reason", Value::from(reason));
}

/// The units of a declaration, as far as they are written as they should be.
fn units(declared: &Table) -> Units {
    let mut units = Units::new();
    for unit in declared.get("units").and_then(Item::as_array).into_iter().flatten() {
        let Some(unit) = unit.as_inline_table() else { continue };
        let number = |key: &str| {
            let value = unit.get(key)?;
            value.as_float().or_else(|| value.as_integer()?.to_f64())
        };
        if let Some(name) = unit.get("name").and_then(Value::as_str) {
            let declared = DeclaredUnit { ratio: number("ratio"), deviation: number("deviation") };
            units.insert(name.to_owned(), declared);
        }
    }
    units
}

/// Writes one unit behind the key, or each on a line of its own.
fn set_units(declared: &mut Table, units: &Units) {
    if units.is_empty() {
        declared.remove("units");
        return;
    }
    let mut array = Array::new();
    for (name, DeclaredUnit { ratio, deviation }) in units {
        let mut unit = InlineTable::new();
        unit.insert("name", name.into());
        for (key, number) in [("ratio", ratio), ("deviation", deviation)] {
            if let Some(number) = *number {
                unit.insert(key, number.into());
            }
        }
        array.push(unit);
    }
    if units.len() > 1 {
        for unit in array.iter_mut() {
            unit.decor_mut().set_prefix("\n    ");
        }
        array.set_trailing_comma(true);
        array.set_trailing("\n");
    }
    set(declared, "units", Value::Array(array));
}

/// Sets a value, and leaves the comments around a former one.
fn set(table: &mut Table, key: &str, mut new: Value) {
    if let Some(former) = table.get(key).and_then(Item::as_value) {
        *new.decor_mut() = former.decor().clone();
    }
    table[key] = Item::Value(new);
}
