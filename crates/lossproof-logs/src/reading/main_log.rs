//! `main.log` of llm.c: `s:0 trl:10.9512 lr:0.000001 norm:15.35`, `s:0 tel:11.0102`, `s:250 eval:0.2512`.
//!
//! Follows `llmc/logger.h` and `train_gpt2.py` of karpathy/llm.c at f1e2ace. A training line is written after the
//! update of its step, and the first step is 0; a validation is made before it.

use super::{
    LogError,
    columns::{Columns, count},
};
use crate::{Format, Log, Quantity, Row, printed::Printed};
use lossproof_spec::shortened;

/// Whether a line is one of such a log.
pub(super) fn is_line(line: &str) -> bool {
    let digits = line.strip_prefix("s:").and_then(|rest| rest.split_ascii_whitespace().next());
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn read(name: &str, text: &str) -> Result<Log, LogError> {
    let mut columns = Columns::new(name, Format::MainLog);
    columns.note("step 0 of llm.c is taken for the first update".to_owned());
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let problem = |problem: String| LogError::Line { name: name.to_owned(), line: number, problem };
        let row = row(&mut columns, line).map_err(problem)?;
        columns.row(row);
    }
    Ok(columns.finish())
}

fn row(columns: &mut Columns, line: &str) -> Result<Row, String> {
    let mut row = Row::default();
    let mut step = None;
    let mut trained = false;
    for word in line.split_ascii_whitespace() {
        let remedy = "llm.c writes KEY:NUMBER; was the log cut short?";
        let (key, value) = word
            .split_once(':')
            .ok_or_else(|| format!("`{}` is no KEY:NUMBER: {remedy}", shortened(word)))?;
        let value =
            Printed::parse(value).ok_or_else(|| format!("`{}` has no number: {remedy}", shortened(word)))?;
        match key {
            "s" => step = count(value),
            "trl" => {
                trained = true;
                columns.number(&mut row, Quantity::Loss, value);
            }
            "lr" => columns.number(&mut row, Quantity::LearningRate, value),
            "norm" => columns.number(&mut row, Quantity::GradNorm, value),
            "tel" => columns.number(&mut row, Quantity::ValidationLoss, value),
            other => columns.number(&mut row, Quantity::Other(other.to_owned()), value),
        }
    }
    let step = step.ok_or_else(|| "it has no step `s:`: remove the line".to_owned())?;
    row.update = Some(step + u64::from(trained));
    Ok(row)
}
