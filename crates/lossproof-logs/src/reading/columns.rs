//! A log as it is made, number by number, with what its columns were rounded to.

use crate::{
    Format, Log, Names, Quantity, Reading, Row,
    printed::{Places, Printed},
};
use lossproof_spec::shortened;
use std::collections::BTreeMap;

/// A log that is being made.
pub(super) struct Columns {
    log: Log,
    places: BTreeMap<Quantity, Places>,
    /// Of what several columns of a row could be: the one that is taken, and one that is left aside.
    left_aside: BTreeMap<String, String>,
}

impl Columns {
    pub(super) fn new(name: &str, format: Format) -> Self {
        let log = Log {
            name: name.to_owned(),
            format,
            rows: Vec::new(),
            resolution: BTreeMap::new(),
            unit_roundoff: None,
            notes: Vec::new(),
        };
        Self { log, places: BTreeMap::new(), left_aside: BTreeMap::new() }
    }

    /// Says what had to be supposed.
    pub(super) fn note(&mut self, note: String) {
        self.log.notes.push(note);
    }

    /// A number of a row.
    pub(super) fn number(&mut self, row: &mut Row, quantity: Quantity, number: Printed) {
        self.places.entry(quantity.clone()).or_default().add(number);
        row.values.insert(quantity, number.value);
    }

    /// All numbers of a row, by their names. Where several names stand for one thing the most usual is taken.
    ///
    /// # Errors
    /// When an update or tokens are no count.
    pub(super) fn numbers(
        &mut self,
        row: &mut Row,
        numbers: BTreeMap<String, Printed>,
        names: &Names,
    ) -> Result<(), String> {
        let mut taken: Vec<(usize, String, Reading, Printed)> = Vec::new();
        for (name, number) in numbers {
            let (rank, reading) = names.ranked(&name);
            match taken.iter_mut().find(|(_, _, other, _)| *other == reading) {
                Some(other) if rank < other.0 => {
                    self.left_aside.insert(name.clone(), other.1.clone());
                    *other = (rank, name, reading, number);
                }
                Some(other) => {
                    self.left_aside.insert(other.1.clone(), name);
                }
                None => taken.push((rank, name, reading, number)),
            }
        }
        for (_, name, reading, number) in taken {
            let counted = || {
                let named = || format!("`{}` is {}, and it must be a count", shortened(&name), number.value);
                count(number).ok_or_else(named)
            };
            match reading {
                Reading::Update => row.update = Some(counted()?),
                Reading::Tokens => row.tokens = Some(counted()?),
                Reading::Quantity(quantity) => self.number(row, quantity, number),
            }
        }
        Ok(())
    }

    pub(super) fn row(&mut self, row: Row) {
        self.log.rows.push(row);
    }

    pub(super) fn rows(&mut self) -> &mut Vec<Row> {
        &mut self.log.rows
    }

    pub(super) fn finish(mut self) -> Log {
        // llm.c prints zeros at the end; others do not tell.
        let always_padded = self.log.format == Format::MainLog;
        for (quantity, places) in self.places {
            self.log.resolution.insert(quantity, places.resolution(always_padded));
        }
        for (taken, left) in self.left_aside {
            let [taken, left] = [taken, left].map(|name| shortened(&name));
            self.log
                .notes
                .push(format!("`{taken}` is taken, and `{left}`, which could be the same, is left aside"));
        }
        self.log
    }
}

/// A number as a count.
pub(super) fn count(number: Printed) -> Option<u64> {
    let value = number.value;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number below 2^53")]
    (value >= 0.0 && value.fract() == 0.0 && value < 9e15).then_some(value as u64)
}
