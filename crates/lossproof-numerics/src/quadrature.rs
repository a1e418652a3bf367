//! Integrals along a line: what a difference of losses is of the gradients between.

use lossproof_spec::CompensatedSum;
use std::f64::consts::PI;

/// Intervals of the finest rule. A coarser one has half as many, on every second node.
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

/// `∫ f(x) dx` over [−1, 1] by the rule of Clenshaw and Curtis (1960) on the nodes `cos(kπ/n)`, exact for
/// polynomials of degree n: on five of them, the ends first, and on nine where five are not `enough`. The error is
/// estimated by the rules on half and on a quarter of the intervals. `state` is what both functions share.
///
/// # Errors
/// The first error of `f`.
pub fn integrate<S, E>(
    state: &mut S,
    mut f: impl FnMut(&mut S, f64) -> Result<f64, E>,
    enough: impl Fn(&S, &Integral) -> bool,
) -> Result<Integral, E> {
    let mut values = [0.0; INTERVALS + 1];
    let place = |node: usize| (node as f64 * PI / INTERVALS as f64).cos();
    for node in (0..=INTERVALS).step_by(2) {
        values[node] = f(state, place(node))?;
    }
    let rule =
        |values: &[f64], stride: usize| weighed(&values.iter().copied().step_by(stride).collect::<Vec<_>>());
    // Two rules may agree by accident, and three hardly: on what has little of the eighth Chebyshev polynomial, which
    // is one on five nodes and on half of them.
    let integral = |values: &[f64], stride: usize| {
        let [fine, coarse, coarsest] = [1, 2, 4].map(|times| rule(values, stride * times));
        let uncertainty = (fine - coarse).abs().max((coarse - coarsest).abs() / COARSER);
        Integral { value: fine, uncertainty }
    };
    let on_five = integral(&values, 2);
    if enough(state, &on_five) {
        return Ok(on_five);
    }
    for node in (1..INTERVALS).step_by(2) {
        values[node] = f(state, place(node))?;
    }
    Ok(integral(&values, 1))
}

/// The rule on these values, one more than a power of two.
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
        integrate(&mut (), |(), x| Ok::<_, Infallible>(f(x)), |(), _| false).expect("it cannot fail")
    }

    #[test]
    fn five_nodes_are_taken_where_they_are_enough() {
        let taken = |enough: bool| {
            let mut places = Vec::new();
            let f = |places: &mut Vec<f64>, x: f64| {
                places.push(x);
                Ok::<_, Infallible>(x.powi(4))
            };
            let found = integrate(&mut places, f, |_, _| enough).expect("it cannot fail");
            assert!((found.value - 0.4).abs() < 1e-15, "{found:?}");
            (places.len(), places[0])
        };
        assert_eq!([taken(true), taken(false)], [(5, 1.0), (9, 1.0)]);
    }

    #[test]
    fn the_uncertainty_covers_the_error_on_five_nodes_too() {
        for rate in [0.125, 0.5, 1.0, 2.0] {
            let due = (f64::exp(rate) - f64::exp(-rate)) / rate;
            let f = |(): &mut (), x: f64| Ok::<_, Infallible>(f64::exp(rate * x));
            let found = integrate(&mut (), f, |(), _| true).expect("it cannot fail");
            assert!((found.value - due).abs() <= found.uncertainty, "{rate}: {found:?}");
        }
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
