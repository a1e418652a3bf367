//! Lines of JSON, an object each, with names of their own.

use super::{LogError, columns::Columns};
use crate::{Format, Log, Names, Quantity, Row, json};
use lossproof_spec::concise;
use serde_json::value::RawValue;

pub(super) fn read(name: &str, text: &str, names: &Names) -> Result<Log, LogError> {
    let mut columns = Columns::new(name, Format::JsonLines);
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let problem = |error: serde_json::Error| LogError::Line {
            name: name.to_owned(),
            line: number,
            problem: format!("{}: every line is a whole JSON object; was the log cut short?", concise(error)),
        };
        let line = json::quoted(line);
        let object: &RawValue = serde_json::from_str(&line).map_err(problem)?;
        let numbers = json::numbers(object).map_err(problem)?;
        let mut row = Row::default();
        columns.numbers(&mut row, numbers, names).map_err(|problem| LogError::Line {
            name: name.to_owned(),
            line: number,
            problem,
        })?;
        if !row.values.is_empty() {
            columns.row(row);
        }
    }
    number_updates(&mut columns);
    Ok(columns.finish())
}

/// Rows that say neither their update nor their tokens are counted, those with a training loss.
fn number_updates(columns: &mut Columns) {
    let rows = columns.rows();
    if rows.is_empty() || rows.iter().any(|row| row.update.is_some() || row.tokens.is_some()) {
        return;
    }
    let mut update = 0;
    for row in rows.iter_mut() {
        update += u64::from(row.values.contains_key(&Quantity::Loss));
        row.update = Some(update);
    }
    columns.note("no line says its update or its tokens: lines with a loss are counted from 1".to_owned());
}
