//! lossproof's own traces: of a few steps, and of a loop.

use super::{
    LogError,
    columns::{Columns, count},
};
use crate::{Format, Log, Quantity, Row, json, printed::Printed};
use lossproof_spec::concise;
use lossproof_trace::Trace;
use serde_json::value::RawValue;

pub(super) fn read(name: &str, text: &str) -> Result<Log, LogError> {
    let trace = Trace::from_json_lines(text)
        .map_err(|source| LogError::Trace { name: name.to_owned(), source: Box::new(source) })?;
    let mut columns = Columns::new(name, Format::Trace);
    let mut tokens = Some(0);
    for step in trace.steps() {
        tokens =
            tokens.zip(step.supervised_tokens).map(|(so_far, more)| u64::saturating_add(so_far, more as u64));
        let mut row = Row { update: Some(step.step as u64), tokens, ..Row::default() };
        columns.number(&mut row, Quantity::LearningRate, Printed::exact(step.learning_rate));
        columns.number(&mut row, Quantity::Loss, Printed::exact(step.loss));
        columns.number(&mut row, Quantity::GradNorm, Printed::exact(step.grad_norm));
        columns.number(&mut row, Quantity::ClipFactor, Printed::exact(step.clip_factor));
        for (parameter, &norm) in trace.header().parameters.iter().zip(&step.tensor_norms) {
            columns.number(&mut row, Quantity::TensorNorm(parameter.clone()), Printed::exact(norm));
        }
        columns.row(row);
    }
    let mut log = columns.finish();
    log.unit_roundoff = Some(trace.header().dtype.unit_roundoff());
    Ok(log)
}

/// The trace of a loop: an event a line, after a line that says which run it is. Windows hold their own tokens, so
/// these are added up.
pub(super) fn read_loop(name: &str, text: &str) -> Result<Log, LogError> {
    let mut columns = Columns::new(name, Format::LoopTrace);
    let mut tokens = 0_u64;
    for (line, number) in text.lines().zip(1..).skip(1).filter(|(line, _)| !line.trim().is_empty()) {
        let problem = |error: serde_json::Error| LogError::Line {
            name: name.to_owned(),
            line: number,
            problem: format!("{}: let `lossproof train --trace` write it again", concise(error)),
        };
        let object: &RawValue = serde_json::from_str(line).map_err(problem)?;
        let numbers = json::numbers(object).map_err(problem)?;
        let number = |name: &str| numbers.get(name).copied();
        let mut row = Row::default();
        if let Some(update) = number("update/update") {
            tokens = tokens.saturating_add(number("update/tokens").and_then(count).unwrap_or(0));
            (row.update, row.tokens) = (count(update), Some(tokens));
        } else {
            let update = number("validation/updates").or(number("epoch/updates"));
            row.update = update.and_then(count);
        }
        let known = [
            ("update/learning_rate", Quantity::LearningRate),
            ("update/loss", Quantity::Loss),
            ("update/grad_norm", Quantity::GradNorm),
            ("update/clip_factor", Quantity::ClipFactor),
            ("validation/validation/loss", Quantity::ValidationLoss),
            ("validation/validation/perplexity", Quantity::Perplexity),
            ("epoch/validation/loss", Quantity::ValidationLoss),
            ("epoch/validation/perplexity", Quantity::Perplexity),
        ];
        for (name, quantity) in known {
            if let Some(value) = number(name) {
                columns.number(&mut row, quantity, Printed::exact(value.value));
            }
        }
        columns.row(row);
    }
    Ok(columns.finish())
}
