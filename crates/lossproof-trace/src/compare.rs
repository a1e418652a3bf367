//! Two traces of one run, number by number. Two numbers are compared by their relative error, never by their digits,
//! so there is no value at which a rounding decides.

use super::{Difference, Header, Plan, Quantity, Step, Tolerance, Trace, difference::Numbers};
use serde::Serialize;

/// Two traces that agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// The loss, at the step where it came closest to its bound.
    pub loss: Closest,
    /// The same of the norms, in total and of each parameter.
    pub norms: Closest,
    /// Parameters whose norms were never compared: at every step, in both traces, they are no more than what rounding
    /// makes of zero.
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
/// Whether a step was skipped and how many tokens it supervised are compared exactly, all else by relative error
/// within the tolerance. What is not finite is within none. The norms of a step that both skipped are not compared:
/// it was skipped because they are not finite.
///
/// # Errors
/// [`Difference`], saying where the traces part first.
pub fn compare(expected: &Trace, actual: &Trace, tolerance: &Tolerance) -> Result<Agreement, Difference> {
    same_run(&expected.header, &actual.header)?;
    let last = expected.steps.len();
    for bound in [tolerance.loss(last), tolerance.norm(last)] {
        if bound.is_nan() || bound >= 1.0 {
            return Err(Difference::Vacuous { step: last, bound });
        }
    }
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
        self.error() > self.bound
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

/// Of what is off, the first in the order of computation leads whose error is at least this fraction of the largest:
/// one mistake shows in several columns, about equally.
const LEADING: f64 = 0.5;

fn numbers([expected, actual]: [&Trace; 2], step: usize, mut off: Vec<Row>, steps: usize) -> Numbers {
    let largest = off.iter().map(Row::error).fold(0.0, f64::max);
    let leading = off.iter().position(|row| row.error() >= LEADING * largest).unwrap_or(0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Segment, Trainer};
    use lossproof_spec::LossSpec;
    use lossproof_spec::{Dtype, Optimizer};
    use lossproof_subject::Device;

    const TOLERANCE: Tolerance = Tolerance::new(Dtype::F64, 1e-12, 1e-12);

    fn step(step: usize) -> Step {
        Step {
            step,
            loss: 3.0,
            supervised_tokens: Some(100),
            learning_rate: 0.1,
            grad_norm: 1.0,
            clip_factor: 1.0,
            skipped: false,
            // The second one is the rounding of zero.
            tensor_norms: vec![1.0, 1e-17],
        }
    }

    /// A trace of three steps, the second one changed.
    fn trace(change: impl Fn(&mut Step)) -> Trace {
        let mut steps: Vec<_> = (1..=3).map(step).collect();
        change(&mut steps[1]);
        let header = Header {
            trainer: Trainer { name: "t".to_owned(), version: "1".to_owned(), framework: "none".to_owned() },
            device: Device::Cpu,
            dtype: Dtype::F64,
            plan: Plan {
                config: "two weights".to_owned(),
                seed: 0,
                loss: LossSpec::token_mean(),
                segments: vec![Segment { optimizer: Optimizer::sgd(0.1), steps: 3 }],
            },
            parameters: vec!["weight".to_owned(), "key".to_owned()],
        };
        Trace::new(header, steps).unwrap()
    }

    /// What is said to part first when the second step is changed so.
    fn parts(change: impl Fn(&mut Step)) -> Option<(usize, Quantity)> {
        match compare(&trace(|_| {}), &trace(change), &TOLERANCE) {
            Ok(_) => None,
            Err(Difference::Numbers(numbers)) => Some((numbers.step, numbers.quantity)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_column_is_compared_within_its_bound() {
        let tensor = Quantity::TensorNorm("weight".to_owned());
        let bound = TOLERANCE.norm(2);
        assert_eq!(parts(|_| {}), None);
        assert_eq!(parts(|step| step.loss *= 1.0 + 0.9 * TOLERANCE.loss(2)), None);
        assert_eq!(parts(|step| step.loss *= 1.0 + 1.1 * TOLERANCE.loss(2)), Some((2, Quantity::Loss)));
        assert_eq!(parts(|step| step.grad_norm *= 1.0 - 0.9 * bound), None);
        assert_eq!(parts(|step| step.grad_norm *= 1.0 - 1.1 * bound), Some((2, Quantity::GradNorm)));
        assert_eq!(parts(|step| step.clip_factor = 0.5), Some((2, Quantity::ClipFactor)));
        assert_eq!(parts(|step| step.tensor_norms[0] *= 1.0 + 1.1 * bound), Some((2, tensor)));
        assert_eq!(parts(|step| step.learning_rate *= 1.0 + 1e-15), Some((2, Quantity::LearningRate)));
        assert_eq!(parts(|step| step.supervised_tokens = Some(101)), Some((2, Quantity::SupervisedTokens)));
        assert_eq!(parts(|step| step.supervised_tokens = None), Some((2, Quantity::SupervisedTokens)));
        assert_eq!(parts(|step| step.skipped = true), Some((2, Quantity::Skipped)));
    }

    #[test]
    fn of_what_one_mistake_does_the_first_in_the_order_of_computation_leads() {
        let scaled = |step: &mut Step| {
            step.tensor_norms = vec![8.0, 8e-17];
            step.grad_norm = 8.0;
        };
        let Err(Difference::Numbers(numbers)) = compare(&trace(|_| {}), &trace(scaled), &TOLERANCE) else {
            panic!("eight times as large");
        };
        assert_eq!(
            (numbers.quantity.clone(), numbers.others.len(), numbers.steps),
            (Quantity::GradNorm, 1, 1)
        );
        assert!((numbers.ratio() - 8.0).abs() < 1e-15);
        let said = numbers.to_string();
        assert!(said.starts_with("the traces part at step 2 of 3: grad norm\n  expected  1.0 "), "{said}");
    }

    #[test]
    fn what_is_not_finite_agrees_with_nothing_but_a_skip() {
        for value in [f64::NAN, f64::INFINITY] {
            let both = |change: &dyn Fn(&mut Step)| compare(&trace(change), &trace(change), &TOLERANCE);
            assert!(both(&|step| step.loss = value).is_err());
            assert!(both(&|step| step.tensor_norms[1] = value).is_err());
            assert!(both(&|step| (step.skipped, step.grad_norm) = (true, value)).is_ok());
            assert!(both(&|step| (step.skipped, step.loss) = (true, value)).is_err());
        }
    }

    #[test]
    fn the_rounding_of_zero_is_unchecked_and_a_norm_in_its_place_is_not() {
        let rounded = trace(|step| step.tensor_norms[1] = 3e-17);
        assert_eq!(compare(&trace(|_| {}), &rounded, &TOLERANCE).unwrap().unchecked, ["key"]);
        let key = Quantity::TensorNorm("key".to_owned());
        assert_eq!(parts(|step| step.tensor_norms[1] = 1e-6), Some((2, key)));
    }

    #[test]
    fn another_run_and_a_tolerance_that_holds_nothing_are_no_agreement() {
        let mut other = trace(|_| {});
        other.header.plan.seed = 1;
        let said = compare(&trace(|_| {}), &other, &TOLERANCE).unwrap_err().to_string();
        assert!(said.contains("they differ in `seed`\n  expected  0\n  actual    1"), "{said}");
        for tolerance in [Tolerance::new(Dtype::Bf16, 0.1, 0.6), Tolerance::new(Dtype::F64, f64::NAN, 1e-12)]
        {
            let same = compare(&trace(|_| {}), &trace(|_| {}), &tolerance);
            assert!(matches!(same, Err(Difference::Vacuous { step: 3, .. })));
        }
    }
}
