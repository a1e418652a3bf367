//! Gradients that pass by: what is kept of each tensor while it is there.

use super::blocks::Blocks;
use crate::{GradientSink, GradientView, SinkError, Tensor, TensorSet, TensorValues};
use lossproof_numerics::{Block, Difference, difference};
use rayon::prelude::*;

/// Compares a passing gradient with a multiple of a stored one, block by block, in the order of the blocks.
pub(crate) struct Compare<'a> {
    blocks: &'a Blocks,
    expected: &'a TensorSet,
    factor: f64,
    differences: Vec<Option<Difference>>,
}

impl<'a> Compare<'a> {
    pub(crate) fn new(blocks: &'a Blocks, expected: &'a TensorSet, factor: f64) -> Self {
        Self { blocks, expected, factor, differences: vec![None; blocks.iter().count()] }
    }

    /// One difference per block; `None` where the parameter was not handed over.
    pub(crate) fn into_differences(self) -> Vec<Option<Difference>> {
        self.differences
    }
}

impl GradientSink for Compare<'_> {
    fn receive(&mut self, name: &str, shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        let expected = self.expected.get(name).ok_or_else(|| SinkError::Unknown { name: name.to_owned() })?;
        if expected.shape() != shape || expected.elements() != values.len() {
            return Err(SinkError::Shape {
                name: name.to_owned(),
                found: shape.to_vec(),
                values: values.len(),
                expected: expected.shape().to_vec(),
            });
        }
        for (block, slot) in self.blocks.iter().zip(&mut self.differences) {
            if block.parameter != name {
                continue;
            }
            if slot.is_some() {
                return Err(SinkError::Twice { name: name.to_owned() });
            }
            *slot = Some(compare(block, values, expected, self.factor));
        }
        Ok(())
    }
}

/// One block of a passing tensor against `factor` times the stored one. The common case, a whole tensor in single precision
/// against a double-precision truth, is spelt out and shared among all cores: asking each element for its dtype would
/// double the time at the size of an embedding.
fn compare(block: &Block, values: GradientView<'_>, expected: &Tensor, factor: f64) -> Difference {
    match (values, expected.values()) {
        (GradientView::F32(values), TensorValues::F64(expected)) if block.len() == expected.len() => {
            let compared = |start: usize| {
                let end = values.len().min(start + CHUNK);
                difference(|i| f64::from(values[i]), |i| factor * expected[i], start..end)
            };
            let chunks: Vec<_> = (0..values.len()).into_par_iter().step_by(CHUNK).map(compared).collect();
            let nothing = difference(|_| 0.0, |_| 0.0, std::iter::empty());
            chunks.into_iter().fold(nothing, Difference::merge)
        }
        _ => difference(|i| values.get(i), |i| factor * expected.get(i), block.indices()),
    }
}

/// Elements one core compares at a time.
const CHUNK: usize = 1 << 16;

/// `‖f·a − e‖` for the compared `a` and `e`, from their norms and that of their difference: `Δ + (f − 1)·a` has the norm
/// `√(‖Δ‖² + 2(f − 1)·⟨Δ, a⟩ + (f − 1)²·‖a‖²)` with `⟨Δ, a⟩ = (‖Δ‖² + ‖a‖² − ‖e‖²)/2`.
pub(crate) fn scaled(difference: &Difference, factor: f64) -> f64 {
    let Difference { difference: apart, actual, expected, finite, .. } = *difference;
    if !finite {
        return f64::INFINITY;
    }
    let inner = f64::midpoint(apart * apart, (actual - expected) * (actual + expected));
    let change = factor - 1.0;
    (apart * apart + 2.0 * change * inner + (change * actual).powi(2)).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_scaled_gradient_follows_from_the_norms() {
        let actual: Vec<f64> = (0..50).map(|i| f64::from(i).sin()).collect();
        let expected: Vec<f64> =
            actual.iter().enumerate().map(|(i, a)| a + 1e-4 * (i as f64).cos()).collect();
        let compared = difference(|i| actual[i], |i| expected[i], 0..50);
        for factor in [1.0, 1.0 + 1e-5, 1.0 + 1e-3, 2.0] {
            let direct = difference(|i| factor * actual[i], |i| expected[i], 0..50).difference;
            assert!((scaled(&compared, factor) / direct - 1.0).abs() < 1e-8, "{factor}");
        }
    }
}
