//! Integrals along a line: what a difference of losses is of the gradients between.

use lossproof_spec::CompensatedSum;
use std::f64::consts::PI;

/// Intervals of the finer rule. The coarser one has half as many, on every second node.
const INTERVALS: usize = 8;

/// How many times smaller the error of a rule is at least than that of the rule with half as many intervals,
/// where either is of use.
const COARSER: f64 = 64.0;

/// An integral over [−1, 1], and by how much the rule with half as many nodes is off it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Integral {
    /// The integral.
    pub value: f64,
    /// The difference to coarser rules: far more than the finest one errs by where the function is smooth.
    pub uncertainty: f64,
}

/// `∫ f(x) dx` over [−1, 1] by the rule of Clenshaw and Curtis (1960) on nine nodes, `cos(kπ/8)`, exact for
/// polynomials of degree 8; the error is estimated by the rules on five and on three of them.
///
/// # Errors
/// The first error of `f`.
pub fn integrate<E>(mut f: impl FnMut(f64) -> Result<f64, E>) -> Result<Integral, E> {
    let mut values = Vec::new();
    for node in 0..=INTERVALS {
        values.push(f((node as f64 * PI / INTERVALS as f64).cos())?);
    }
    let every = |stride: usize| weighed(&values.iter().copied().step_by(stride).collect::<Vec<_>>());
    let (fine, coarse, coarsest) = (every(1), every(2), every(4));
    // Two rules may agree by accident, three hardly.
    let uncertainty = (fine - coarse).abs().max((coarse - coarsest).abs() / COARSER);
    Ok(Integral { value: fine, uncertainty })
}

/// The rule on these values, an odd number of them.
fn weighed(values: &[f64]) -> f64 {
    let intervals = values.len() - 1;
    let mut sum = CompensatedSum::default();
    for (node, value) in values.iter().enumerate() {
        let angle = node as f64 * PI / intervals as f64;
        let mut weight = 1.0;
        for term in 1..=intervals / 2 {
            let share = if 2 * term == intervals { 1.0 } else { 2.0 };
            let term = 2.0 * term as f64;
            weight -= share / (term * term - 1.0) * (term * angle).cos();
        }
        let ends = if node == 0 || node == intervals { 1.0 } else { 2.0 };
        sum.add(ends / intervals as f64 * weight * value);
    }
    sum.value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn of(f: impl Fn(f64) -> f64) -> Integral {
        integrate(|x| Ok::<_, Infallible>(f(x))).expect("it cannot fail")
    }

    #[test]
    fn polynomials_up_to_degree_eight_are_exact() {
        for degree in 0..=8 {
            let due = if degree % 2 == 0 { 2.0 / f64::from(degree + 1) } else { 0.0 };
            let found = of(|x| x.powi(degree));
            assert!((found.value - due).abs() < 1e-15, "{degree}: {found:?}");
        }
        assert!((of(|x| x.powi(10)).value - 2.0 / 11.0).abs() > 1e-6);
    }

    #[test]
    fn the_uncertainty_covers_the_error() {
        for rate in [0.5, 1.0, 2.0, 4.0] {
            let due = (f64::exp(rate) - f64::exp(-rate)) / rate;
            let found = of(|x| f64::exp(rate * x));
            assert!((found.value - due).abs() <= found.uncertainty, "{rate}: {found:?}");
        }
        assert!(of(|x| (x / 4.0).exp()).uncertainty < 1e-6);
    }
}
