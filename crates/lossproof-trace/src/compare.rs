//! Two traces of one run, number by number. Two numbers are compared by their relative error, never by their
//! digits, so there is no value at which a rounding decides.

use super::{Difference, Header, Plan, Quantity, Step, Tolerance, Trace, difference::Numbers};
use lossproof_numerics::{Closest, Comparisons, Violation};
use serde::Serialize;

/// Two traces that agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// The loss, at the step where it came closest to its bound.
    pub loss: Option<Closest>,
    /// The same of the norms, in total and of each parameter; `None` where none was compared.
    pub norms: Option<Closest>,
    /// The smallest relative error that is certain to be caught, whichever quantity has it at every step.
    /// What is unchecked is left out.
    pub power: Option<f64>,
    /// Quantities that nothing certified, by name: an error of 1 % would pass. The norm of a parameter is one
    /// where, at every step in both traces, it is no more than what rounding makes of zero.
    pub unchecked: Vec<String>,
}

/// Compares two traces of the same run: plan and parameters must be equal; trainer, device and dtype may
/// differ.
///
/// Whether a step was skipped and how many tokens it supervised are compared exactly, all else by relative
/// error within the tolerance. What is not finite is within none. The norms of a step that both skipped are
/// not compared: it was skipped because they are not finite.
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
    let mut judged = Vec::with_capacity(last);
    for (before, after) in expected.steps.iter().zip(&actual.steps) {
        judged.push(judge(&expected.header.parameters, before, after, tolerance));
    }
    let parts = |step: &[Judged]| step.iter().any(|(_, comparisons)| comparisons.is_violated());
    let mut parted = judged.iter().enumerate().filter(|(_, step)| parts(step));
    let Some((first, step)) = parted.next() else { return Ok(agreement(judged)) };
    let steps = 1 + parted.count();
    Err(Difference::Numbers(Box::new(numbers([expected, actual], first, step, steps))))
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

/// What a step reports, in the order in which it is computed.
fn reported(step: &Step, parameters: &[String]) -> Vec<(Quantity, f64)> {
    let mut reported = vec![
        (Quantity::Skipped, f64::from(u8::from(step.skipped))),
        (Quantity::SupervisedTokens, step.supervised_tokens.map_or(f64::NAN, |tokens| tokens as f64)),
        (Quantity::LearningRate, step.learning_rate),
        (Quantity::Loss, step.loss),
        (Quantity::GradNorm, step.grad_norm),
        (Quantity::ClipFactor, step.clip_factor),
    ];
    for (name, norm) in parameters.iter().zip(&step.tensor_norms) {
        reported.push((Quantity::TensorNorm(name.clone()), *norm));
    }
    reported
}

/// A quantity, and how it compares at one step.
type Judged = (Quantity, Comparisons);

/// Compares one step, each quantity by itself.
fn judge(parameters: &[String], expected: &Step, actual: &Step, tolerance: &Tolerance) -> Vec<Judged> {
    let skipped = expected.skipped && actual.skipped;
    let nothing = [expected, actual].map(|step| tolerance.nothing() * step.grad_norm);
    let mut judged = Vec::new();
    let pairs = reported(expected, parameters).into_iter().zip(reported(actual, parameters));
    for ((quantity, before), (_, after)) in pairs {
        let bound = match quantity {
            Quantity::Skipped | Quantity::SupervisedTokens => 0.0,
            Quantity::LearningRate => tolerance.learning_rate(),
            Quantity::Loss => tolerance.loss(expected.step),
            Quantity::GradNorm | Quantity::ClipFactor | Quantity::TensorNorm(_) => {
                tolerance.norm(expected.step)
            }
        };
        let unit = quantity.to_string();
        let error = relative_error(before, after);
        let violation = || {
            let (unit, statement) = (unit.clone(), unit.clone());
            Violation { unit, statement, error, bound, pair: None, ratio: None }
        };
        let mut comparisons = Comparisons::default();
        match quantity {
            // Neither trainer counts.
            Quantity::SupervisedTokens if before.is_nan() && after.is_nan() => {}
            Quantity::Skipped | Quantity::SupervisedTokens => {
                comparisons.hold(&unit, bound, error, violation);
            }
            Quantity::GradNorm | Quantity::ClipFactor | Quantity::TensorNorm(_) if skipped => {
                comparisons.require(&unit);
            }
            Quantity::TensorNorm(_) if before <= nothing[0] && after <= nothing[1] => {
                comparisons.require(&unit);
            }
            _ => comparisons.compare(&unit, bound, (after / before).abs(), error, violation),
        }
        judged.push((quantity, comparisons));
    }
    judged
}

/// How far a number is from the expected one, relative to that; infinite when one of them is not finite.
fn relative_error(expected: f64, actual: f64) -> f64 {
    let difference = (actual - expected).abs();
    if difference == 0.0 {
        return 0.0;
    }
    let error = difference / expected.abs();
    if error.is_nan() { f64::INFINITY } else { error }
}

/// What the comparisons of all steps come to, none of them being violated.
fn agreement(judged: Vec<Vec<Judged>>) -> Agreement {
    let mut loss = Comparisons::default();
    let mut norms = Comparisons::default();
    let mut all = Comparisons::default();
    for (step, number) in judged.into_iter().zip(1..) {
        for (quantity, comparisons) in step {
            let part = match quantity {
                Quantity::Loss => &mut loss,
                Quantity::GradNorm | Quantity::TensorNorm(_) => &mut norms,
                _ => &mut all,
            };
            part.merge(comparisons.at(format_args!("step {number}")));
        }
    }
    let [closest_loss, closest_norm] = [&loss, &norms].map(|part| part.closest().cloned());
    all.merge(loss);
    all.merge(norms);
    let (certified, unchecked): (Vec<_>, Vec<_>) = all.units().partition(|(_, unit)| unit.power.is_finite());
    Agreement {
        loss: closest_loss,
        norms: closest_norm,
        power: certified.iter().map(|(_, unit)| unit.power).reduce(f64::max),
        unchecked: unchecked.iter().map(|(name, _)| (*name).to_owned()).collect(),
    }
}

/// Of what is off, the first in the order of computation leads whose error is at least this fraction of the
/// largest: one mistake shows in several quantities, about equally.
const LEADING: f64 = 0.5;

/// What is said of the first step at which the traces part, and of how many do.
fn numbers([expected, actual]: [&Trace; 2], first: usize, step: &[Judged], steps: usize) -> Numbers {
    let mut off = Vec::new();
    for (column, (quantity, comparisons)) in step.iter().enumerate() {
        for Violation { error, bound, .. } in comparisons.violations() {
            off.push((column, quantity.clone(), error, bound));
        }
    }
    let largest = off.iter().map(|(_, _, error, _)| *error).fold(0.0, f64::max);
    let leading = off.iter().position(|(_, _, error, _)| *error >= LEADING * largest).unwrap_or(0);
    let (column, quantity, error, bound) = off.remove(leading);
    let parameters = &expected.header.parameters;
    let curves = [expected, actual]
        .map(|trace| trace.steps.iter().map(|step| reported(step, parameters)[column].1).collect::<Vec<_>>());
    let computed_by = [expected, actual].map(|trace| {
        let Header { trainer, device, dtype, .. } = &trace.header;
        format!("{} {} on {}, {dtype}, {device}", trainer.name, trainer.version, trainer.framework)
    });
    Numbers {
        step: first + 1,
        quantity,
        expected: curves[0][first],
        actual: curves[1][first],
        error,
        bound,
        others: off.into_iter().map(|(_, quantity, ..)| quantity).collect(),
        steps,
        computed_by,
        curves,
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
    fn an_agreement_says_where_it_was_closest_and_what_it_would_have_shown() {
        let near = trace(|step| (step.loss, step.tensor_norms[0]) = (3.0, 1.0 + 1e-12));
        let agreement = compare(&trace(|_| {}), &near, &TOLERANCE).unwrap();
        let at = |closest: Option<Closest>| closest.map(|closest| closest.at);
        assert_eq!(at(agreement.loss).as_deref(), Some("loss at step 1"));
        assert_eq!(at(agreement.norms).as_deref(), Some("grad norm of weight at step 2"));
        assert_eq!(agreement.power, Some(TOLERANCE.norm(1)));
    }

    #[test]
    fn what_an_error_of_1_percent_would_pass_is_unchecked() {
        let weak = Tolerance::new(Dtype::F64, 1e-12, 0.02);
        let agreement = compare(&trace(|_| {}), &trace(|_| {}), &weak).unwrap();
        let norms = ["clip factor", "grad norm", "grad norm of key", "grad norm of weight"];
        assert_eq!((agreement.unchecked, agreement.power), (norms.map(str::to_owned).to_vec(), Some(1e-12)));
    }

    #[test]
    fn the_rounding_of_zero_is_unchecked_and_a_norm_in_its_place_is_not() {
        let rounded = trace(|step| step.tensor_norms[1] = 3e-17);
        assert_eq!(compare(&trace(|_| {}), &rounded, &TOLERANCE).unwrap().unchecked, ["grad norm of key"]);
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
