//! A log as it is made, number by number, with what its columns were rounded to.

use crate::{
    Format, Log, Names, Quantity, Reading, Row,
    printed::{Printed, resolution},
};
use std::collections::BTreeMap;

/// A log that is being made.
pub(super) struct Columns {
    log: Log,
    last_places: BTreeMap<Quantity, Vec<i32>>,
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
        Self { log, last_places: BTreeMap::new() }
    }

    /// Says what had to be supposed.
    pub(super) fn note(&mut self, note: String) {
        self.log.notes.push(note);
    }

    /// A number of a row.
    pub(super) fn number(&mut self, row: &mut Row, quantity: Quantity, number: Printed) {
        if let Some(place) = number.last_place {
            let places = self.last_places.entry(quantity.clone()).or_default();
            // Only the finest counts.
            match places.first_mut() {
                Some(finest) => *finest = place.min(*finest),
                None => places.push(place),
            }
        }
        row.values.insert(quantity, number.value);
    }

    /// All numbers of a row, by their names. Counts that are none are no counts.
    pub(super) fn numbers(&mut self, row: &mut Row, numbers: BTreeMap<String, Printed>, names: &Names) {
        for (name, number) in numbers {
            match names.reading(&name) {
                Reading::Update => row.update = count(number).or(row.update),
                Reading::Tokens => row.tokens = count(number).or(row.tokens),
                Reading::Quantity(quantity) => self.number(row, quantity, number),
            }
        }
    }

    pub(super) fn row(&mut self, row: Row) {
        self.log.rows.push(row);
    }

    pub(super) fn rows(&mut self) -> &mut Vec<Row> {
        &mut self.log.rows
    }

    pub(super) fn finish(mut self) -> Log {
        for (quantity, places) in self.last_places {
            self.log.resolution.insert(quantity, resolution(places.into_iter()));
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
