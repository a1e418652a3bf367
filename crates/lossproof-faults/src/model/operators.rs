//! The operators of the model, each a function that a fault replaces, and how they are right.

use super::PaddedRows;
use std::f64::consts::PI;

/// ε of every layer norm, which belongs under the root.
pub(crate) const EPSILON: f64 = 1e-5;

/// The operators in which a model can be wrong.
#[derive(Clone, Copy)]
pub(crate) struct Operators {
    /// Whether, in a row, a query sees a key.
    pub(crate) sees: fn(&PaddedRows, usize, usize, usize) -> bool,
    /// From a softmax and its gradient, that of what went in, in place.
    pub(crate) softmax_backward: fn(&[f64], &mut [f64]),
    /// What a layer norm multiplies a row with, from its variance.
    pub(crate) inverse_deviation: fn(f64) -> f64,
    /// From the gradient of a layer norm's output, that of its input, in place; those of gain and bias are
    /// added.
    pub(crate) layer_norm_backward: fn(&Normed<'_>, &mut [f64], &mut GainAndBias),
    /// The derivative of the activation.
    pub(crate) gelu_slope: fn(f64) -> f64,
    /// The gradient of a table, all zero before, from the rows that were looked up in it and their gradients.
    pub(crate) embedding_backward: fn(&[usize], &[f64], &mut [f64]),
    /// The loss of one prediction and its gradient, from the logits.
    pub(crate) cross_entropy: fn(&[f64], &Target) -> (f64, Vec<f64>),
}

/// One row in a layer norm.
pub(crate) struct Normed<'a> {
    /// `x̂ = (x − mean)/σ`.
    pub(crate) values: &'a [f64],
    /// `1/σ`, `σ² = variance + ε`.
    pub(crate) inverse_deviation: f64,
    pub(crate) gain: &'a [f64],
}

/// Gradients of a layer norm's parameters.
pub(crate) struct GainAndBias {
    pub(crate) gain: Vec<f64>,
    pub(crate) bias: Vec<f64>,
}

/// What one prediction is scored against.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) label: usize,
    pub(crate) label_smoothing: f64,
    pub(crate) z_loss: f64,
}

impl Operators {
    /// Nothing is wrong with them.
    pub(crate) const HONEST: Self = Self {
        sees,
        softmax_backward,
        inverse_deviation: |variance| 1.0 / (variance + EPSILON).sqrt(),
        layer_norm_backward: |row, gradient, sums| {
            gain_and_bias(row, gradient, sums);
            let (mean, along) = means(row, gradient);
            for (g, normed) in gradient.iter_mut().zip(row.values) {
                *g = (*g - mean - normed * along) * row.inverse_deviation;
            }
        },
        gelu_slope: |x| gelu_terms(x).iter().sum(),
        embedding_backward: |ids, upstream, table| {
            let columns = upstream.len() / ids.len();
            for (&id, gradient) in ids.iter().zip(upstream.chunks_exact(columns)) {
                add(&mut table[id * columns..][..columns], 1.0, gradient);
            }
        },
        cross_entropy,
    };
}

/// A query sees its own document up to itself. Padding sees itself, so that no row of the softmax is empty.
fn sees(rows: &PaddedRows, row: usize, query: usize, key: usize) -> bool {
    let document = rows.document(row, query);
    key == query || key < query && document != 0 && document == rows.document(row, key)
}

/// `dx = y·(g − Σ g·y)`.
pub(crate) fn softmax_backward(softmax: &[f64], gradient: &mut [f64]) {
    let mean = dot(softmax, gradient);
    for (g, y) in gradient.iter_mut().zip(softmax) {
        *g = y * (*g - mean);
    }
}

/// Adds what gain and bias get, and turns the gradient of the output into that of `x̂`.
pub(crate) fn gain_and_bias(row: &Normed<'_>, gradient: &mut [f64], sums: &mut GainAndBias) {
    add(&mut sums.bias, 1.0, gradient);
    for (((g, normed), gain), sum) in gradient.iter_mut().zip(row.values).zip(row.gain).zip(&mut sums.gain) {
        *sum += *g * normed;
        *g *= gain;
    }
}

/// `mean(g)` and `mean(g·x̂)`.
pub(crate) fn means(row: &Normed<'_>, gradient: &[f64]) -> (f64, f64) {
    let columns = gradient.len() as f64;
    (gradient.iter().sum::<f64>() / columns, dot(gradient, row.values) / columns)
}

/// The tanh form of the activation: `x/2·(1 + tanh a)` with `a = √(2/π)·(x + 0.044715·x³)`.
pub(crate) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + gelu_argument(x).tanh())
}

fn gelu_argument(x: f64) -> f64 {
    (2.0 / PI).sqrt() * (x + 0.044_715 * x.powi(3))
}

/// The two terms of its derivative: `(1 + tanh a)/2` and `x/2·(1 − tanh² a)·a′`.
pub(crate) fn gelu_terms(x: f64) -> [f64; 2] {
    let tanh = gelu_argument(x).tanh();
    let slope = (2.0 / PI).sqrt() * (1.0 + 3.0 * 0.044_715 * x * x);
    [0.5 * (1.0 + tanh), 0.5 * x * (1.0 - tanh * tanh) * slope]
}

/// `(1 − ε)·(−log p_y) + ε·mean_c(−log p_c) + ζ·(log Σ exp z)²`, and its gradient.
pub(crate) fn cross_entropy(logits: &[f64], target: &Target) -> (f64, Vec<f64>) {
    let (max, total, softmax) = softmax(logits);
    let classes = logits.len() as f64;
    let mean = logits.iter().map(|z| z - max).sum::<f64>() / classes;
    let log_normaliser = max + total.ln();
    let (spread, kept) = (target.label_smoothing, 1.0 - target.label_smoothing);
    let loss = kept * (total.ln() - (logits[target.label] - max))
        + spread * (total.ln() - mean)
        + target.z_loss * log_normaliser.powi(2);
    let normaliser = 1.0 + 2.0 * target.z_loss * log_normaliser;
    let mut gradient: Vec<f64> = softmax.iter().map(|p| p * normaliser - spread / classes).collect();
    gradient[target.label] -= kept;
    (loss, gradient)
}

/// The largest of the numbers, `Σ exp(z − largest)`, and their softmax. NaN where there is no largest, as of
/// nothing but −∞.
pub(crate) fn softmax(numbers: &[f64]) -> (f64, f64, Vec<f64>) {
    let max = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut softmax: Vec<f64> = numbers.iter().map(|z| (z - max).exp()).collect();
    let total: f64 = softmax.iter().sum();
    for p in &mut softmax {
        *p /= total;
    }
    (max, total, softmax)
}

pub(crate) fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// Adds `factor` times the others.
pub(crate) fn add(sum: &mut [f64], factor: f64, others: &[f64]) {
    for (sum, other) in sum.iter_mut().zip(others) {
        *sum += factor * other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// pytorch/pytorch#63541: it looks like a severed graph, and is true.
    #[test]
    fn a_layer_norm_followed_by_a_sum_has_no_input_gradient() {
        let gain = [1.0; 4];
        let root = 1.25_f64.sqrt();
        let normed = [-1.5, -0.5, 0.5, 1.5].map(|x| x / root);
        let row = Normed { values: &normed, inverse_deviation: 1.0 / root, gain: &gain };
        let mut sums = GainAndBias { gain: vec![0.0; 4], bias: vec![0.0; 4] };
        let mut gradient = [1.0; 4];
        (Operators::HONEST.layer_norm_backward)(&row, &mut gradient, &mut sums);
        assert!(gradient.iter().all(|g| g.abs() < 1e-15), "{gradient:?}");
        assert!(sums.bias.iter().all(|g| (g - 1.0).abs() < 1e-15));

        let mut other = [1.0, 2.0, 3.0, 5.0];
        (Operators::HONEST.layer_norm_backward)(&row, &mut other, &mut sums);
        assert!(other.iter().all(|g| g.abs() > 1e-3), "{other:?}");
    }
}
