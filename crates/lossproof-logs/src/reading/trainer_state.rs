//! `trainer_state.json` of transformers' `Trainer`: a list `log_history` of objects with a `step`.
//!
//! The loss of an entry is the mean over the updates since the entry before, rounded to four places in older
//! releases; the last entry of a run is a summary (`train_runtime`, `train_loss`), and no row.

use super::{LogError, columns::Columns};
use crate::{Format, Log, Names, Row, json};
use lossproof_spec::concise;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct TrainerState<'a> {
    #[serde(borrow)]
    log_history: Vec<&'a RawValue>,
}

/// What only the summary of a run has.
const SUMMARY: &str = "train_runtime";

pub(super) fn read(name: &str, text: &str, names: &Names) -> Result<Log, LogError> {
    let form =
        |problem: String| LogError::Form { name: name.to_owned(), format: Format::TrainerState, problem };
    let text = json::quoted(text);
    let state: TrainerState<'_> =
        serde_json::from_str(&text).map_err(|error| form(concise(error).to_string()))?;
    let mut columns = Columns::new(name, Format::TrainerState);
    for (entry, number) in state.log_history.into_iter().zip(1..) {
        let numbers = json::numbers(entry)
            .map_err(|error| form(format!("entry {number} of log_history: {}", concise(error))))?;
        if numbers.contains_key(SUMMARY) {
            continue;
        }
        let mut row = Row::default();
        columns
            .numbers(&mut row, numbers, names)
            .map_err(|problem| form(format!("entry {number} of log_history: {problem}")))?;
        columns.row(row);
    }
    Ok(columns.finish())
}
