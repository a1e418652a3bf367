//! Two traces of one run, number by number. Two numbers are compared by their relative error, never by their digits, so there
//! is no value at which a rounding decides.

use super::{Difference, Header, Plan, Quantity, Step, Tolerance, Trace, difference::Numbers};
use serde::Serialize;

/// Two traces that agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// The loss, at the step where it came closest to its bound.
    pub loss: Closest,
    /// The same of the norms, in total and of each parameter.
    pub norms: Closest,
    /// Parameters whose norms were never compared: at every step, in both traces, they are no more than what rounding makes
    /// of zero.
    pub unchecked: Vec<String>,
}

/// Where something came closest to its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Closest {
    /// The number of the step, from 1; 0 when nothing was compared.
    pub step: usize,
    /// The relative error.
    pub error: f64,
    /// The bound on it.
    pub bound: f64,
}

impl Closest {
    fn see(&mut self, step: usize, error: f64, bound: f64) {
        if self.step == 0 || error * self.bound > self.error * bound {
            *self = Self { step, error, bound };
        }
    }

    /// The error as a fraction of its bound.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        self.error / self.bound
    }
}

/// Compares two traces of the same run: plan and parameters must be equal; trainer, device and dtype may differ.
///
/// Whether a step was skipped and how many tokens it supervised are compared exactly, all else by relative error within the
/// tolerance. What is not finite is within none. The norms of a step that both skipped are not compared: it was skipped
/// because they are not finite.
///
/// # Errors
/// [`Difference`], saying where the traces part first.
pub fn compare(expected: &Trace, actual: &Trace, tolerance: &Tolerance) -> Result<Agreement, Difference> {
    same_run(&expected.header, &actual.header)?;
    let (mut loss, mut norms) = (Closest::default(), Closest::default());
    let mut checked = vec![false; expected.header.parameters.len()];
    let mut first = None;
    let mut steps = 0;
    for (before, after) in expected.steps.iter().zip(&actual.steps) {
        let rows = rows(before, after, tolerance);
        for row in &rows {
            match row.column {
                Column::Loss => loss.see(before.step, row.error(), row.bound),
                Column::GradNorm => norms.see(before.step, row.error(), row.bound),
                Column::TensorNorm(index) => {
                    norms.see(before.step, row.error(), row.bound);
                    checked[index] = true;
                }
                _ => {}
            }
        }
        let off: Vec<_> = rows.into_iter().filter(Row::is_off).collect();
        steps += usize::from(!off.is_empty());
        if first.is_none() && !off.is_empty() {
            first = Some((before.step, off));
        }
    }
    let names = &expected.header.parameters;
    match first {
        None => {
            let unchecked = names.iter().zip(checked).filter(|(_, checked)| !checked);
            Ok(Agreement { loss, norms, unchecked: unchecked.map(|(name, _)| name.clone()).collect() })
        }
        Some((step, off)) => {
            Err(Difference::Numbers(Box::new(numbers([expected, actual], step, off, steps))))
        }
    }
}

/// Whether both are traces of the same run.
fn same_run(expected: &Header, actual: &Header) -> Result<(), Difference> {
    fn same<T: PartialEq + Serialize>(
        field: &'static str,
        expected: &T,
        actual: &T,
    ) -> Result<(), Difference> {
        let json =
            |value: &T| serde_json::to_string(value).expect("invariant: a header has string keys only");
        if expected == actual {
            return Ok(());
        }
        Err(Difference::Run { field, expected: json(expected), actual: json(actual) })
    }
    let Plan { config, seed, loss, segments } = &expected.plan;
    same("config", config, &actual.plan.config)?;
    same("seed", seed, &actual.plan.seed)?;
    same("loss", loss, &actual.plan.loss)?;
    same("segments", segments, &actual.plan.segments)?;
    same("parameters", &expected.parameters, &actual.parameters)
}

/// A column of numbers, in the order in which a step computes them.
#[derive(Clone, Copy)]
enum Column {
    Skipped,
    SupervisedTokens,
    LearningRate,
    Loss,
    GradNorm,
    ClipFactor,
    TensorNorm(usize),
}

impl Column {
    fn of(self, step: &Step) -> f64 {
        match self {
            Self::Skipped => f64::from(u8::from(step.skipped)),
            Self::SupervisedTokens => step.supervised_tokens.map_or(f64::NAN, |tokens| tokens as f64),
            Self::LearningRate => step.learning_rate,
            Self::Loss => step.loss,
            Self::GradNorm => step.grad_norm,
            Self::ClipFactor => step.clip_factor,
            Self::TensorNorm(index) => step.tensor_norms[index],
        }
    }

    fn quantity(self, names: &[String]) -> Quantity {
        match self {
            Self::Skipped => Quantity::Skipped,
            Self::SupervisedTokens => Quantity::SupervisedTokens,
            Self::LearningRate => Quantity::LearningRate,
            Self::Loss => Quantity::Loss,
            Self::GradNorm => Quantity::GradNorm,
            Self::ClipFactor => Quantity::ClipFactor,
            Self::TensorNorm(index) => Quantity::TensorNorm(names[index].clone()),
        }
    }
}

/// One comparison.
struct Row {
    column: Column,
    expected: f64,
    actual: f64,
    bound: f64,
}

impl Row {
    /// The relative error; infinite when a number is not finite.
    fn error(&self) -> f64 {
        let difference = (self.actual - self.expected).abs();
        if difference == 0.0 {
            return 0.0;
        }
        let error = difference / self.expected.abs();
        if error.is_nan() { f64::INFINITY } else { error }
    }

    fn is_off(&self) -> bool {
        self.bound.is_nan() || self.error() > self.bound
    }
}

/// What is compared of a step.
fn rows(expected: &Step, actual: &Step, tolerance: &Tolerance) -> Vec<Row> {
    let row = |column: Column, bound| Row {
        column,
        expected: column.of(expected),
        actual: column.of(actual),
        bound,
    };
    let mut rows = vec![row(Column::Skipped, 0.0)];
    if expected.supervised_tokens.is_some() || actual.supervised_tokens.is_some() {
        rows.push(row(Column::SupervisedTokens, 0.0));
    }
    rows.push(row(Column::LearningRate, tolerance.learning_rate()));
    rows.push(row(Column::Loss, tolerance.loss(expected.step)));
    if expected.skipped && actual.skipped {
        return rows;
    }
    let bound = tolerance.norm(expected.step);
    rows.push(row(Column::GradNorm, bound));
    rows.push(row(Column::ClipFactor, bound));
    let nothing =
        |step: &Step, index: usize| step.tensor_norms[index] <= tolerance.nothing() * step.grad_norm;
    let compared = (0..expected.tensor_norms.len())
        .filter(|&index| !(nothing(expected, index) && nothing(actual, index)));
    rows.extend(compared.map(|index| row(Column::TensorNorm(index), bound)));
    rows
}

/// Errors this close to the largest are equally large: what one mistake does to several columns.
const EQUAL: f64 = 0.99;

fn numbers([expected, actual]: [&Trace; 2], step: usize, mut off: Vec<Row>, steps: usize) -> Numbers {
    let largest = off.iter().map(Row::error).fold(0.0, f64::max);
    let leading = off.iter().position(|row| row.error() >= EQUAL * largest).unwrap_or(0);
    let row = off.remove(leading);
    let names = &expected.header.parameters;
    let computed_by = [expected, actual].map(|trace| {
        let Header { trainer, device, dtype, .. } = &trace.header;
        format!("{} {} on {}, {dtype}, {device}", trainer.name, trainer.version, trainer.framework)
    });
    Numbers {
        step,
        quantity: row.column.quantity(names),
        expected: row.expected,
        actual: row.actual,
        error: row.error(),
        bound: row.bound,
        others: off.iter().map(|row| row.column.quantity(names)).collect(),
        steps,
        computed_by,
        curves: [expected, actual].map(|trace| trace.steps.iter().map(|step| row.column.of(step)).collect()),
    }
}
