//! The operators of the model, each a function that a fault replaces, and how they are right.

use super::{PaddedRows, Real, real};

/// ε of every layer norm, which belongs under the root.
pub(crate) const EPSILON: f64 = 1e-5;

/// The operators in which a model can be wrong, on numbers of one precision.
#[derive(Clone, Copy)]
pub(crate) struct Operators<T> {
    /// Whether, in a row, a query sees a key.
    pub(crate) sees: fn(&PaddedRows, usize, usize, usize) -> bool,
    /// What the mask makes of a score, and whether the key is seen.
    pub(crate) masked: fn(T, bool) -> T,
    /// From the gradient of a masked score, that of the score.
    pub(crate) masked_backward: fn(T, bool) -> T,
    /// Whether attention's softmax runs over queries instead of keys.
    pub(crate) softmax_over_queries: bool,
    /// From a softmax and its gradient, that of what went in, in place.
    pub(crate) softmax_backward: fn(&[T], &mut [T]),
    /// What of the gradient goes around attention, in place.
    pub(crate) around_attention: fn(&mut [T]),
    /// What a layer norm multiplies a row with, from its variance.
    pub(crate) inverse_deviation: fn(T) -> T,
    /// From the gradient of a layer norm's output, that of its input, in place; those of gain and bias are
    /// added.
    pub(crate) layer_norm_backward: fn(&Normed<'_, T>, &mut [T], &mut GainAndBias<T>),
    /// The derivative of the activation.
    pub(crate) gelu_slope: fn(T) -> T,
    /// The gradient of a table, all zero before, from the rows that were looked up in it and their gradients.
    pub(crate) embedding_backward: fn(&[usize], &[T], &mut [T]),
    /// The loss of one prediction and its gradient, from the logits.
    pub(crate) cross_entropy: fn(&[T], &Target) -> (T, Vec<T>),
}

/// One row in a layer norm.
pub(crate) struct Normed<'a, T> {
    /// `x̂ = (x − mean)/σ`.
    pub(crate) values: &'a [T],
    /// `1/σ`, `σ² = variance + ε`.
    pub(crate) inverse_deviation: T,
    pub(crate) gain: &'a [T],
}

/// Gradients of a layer norm's parameters.
pub(crate) struct GainAndBias<T> {
    pub(crate) gain: Vec<T>,
    pub(crate) bias: Vec<T>,
}

/// What one prediction is scored against.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) label: usize,
    pub(crate) label_smoothing: f64,
    pub(crate) z_loss: f64,
}

impl<T: Real> Operators<T> {
    /// Nothing is wrong with them.
    pub(crate) fn honest() -> Self {
        Self {
            sees,
            masked: |score, seen| if seen { score } else { T::neg_infinity() },
            // Of a key that has no weight the softmax asks nothing.
            masked_backward: |gradient, _| gradient,
            softmax_over_queries: false,
            softmax_backward,
            around_attention: |_| (),
            inverse_deviation: |variance| (variance + real(EPSILON)).sqrt().recip(),
            layer_norm_backward: |row, gradient, sums| {
                gain_and_bias(row, gradient, sums);
                let (mean, along) = means(row, gradient);
                for (g, &normed) in gradient.iter_mut().zip(row.values) {
                    *g = (*g - mean - normed * along) * row.inverse_deviation;
                }
            },
            gelu_slope: |x| gelu_terms(x).into_iter().sum(),
            embedding_backward: |ids, upstream, table| {
                let columns = upstream.len() / ids.len();
                for (&id, gradient) in ids.iter().zip(upstream.chunks_exact(columns)) {
                    add(&mut table[id * columns..][..columns], T::one(), gradient);
                }
            },
            cross_entropy,
        }
    }
}

/// A query sees its own document up to itself. Padding sees itself, so that no row of the softmax is empty.
pub(crate) fn sees(rows: &PaddedRows, row: usize, query: usize, key: usize) -> bool {
    let document = rows.document(row, query);
    key == query || key < query && document != 0 && document == rows.document(row, key)
}

/// `dx = y·(g − Σ g·y)`.
pub(crate) fn softmax_backward<T: Real>(softmax: &[T], gradient: &mut [T]) {
    let mean = dot(softmax, gradient);
    for (g, &y) in gradient.iter_mut().zip(softmax) {
        *g = y * (*g - mean);
    }
}

/// Adds what gain and bias get, and turns the gradient of the output into that of `x̂`.
pub(crate) fn gain_and_bias<T: Real>(row: &Normed<'_, T>, gradient: &mut [T], sums: &mut GainAndBias<T>) {
    add(&mut sums.bias, T::one(), gradient);
    let values = row.values.iter().zip(row.gain);
    for ((g, (&normed, &gain)), sum) in gradient.iter_mut().zip(values).zip(&mut sums.gain) {
        *sum += *g * normed;
        *g *= gain;
    }
}

/// `mean(g)` and `mean(g·x̂)`.
pub(crate) fn means<T: Real>(row: &Normed<'_, T>, gradient: &[T]) -> (T, T) {
    let columns = real(gradient.len() as f64);
    (gradient.iter().copied().sum::<T>() / columns, dot(gradient, row.values) / columns)
}

/// The tanh form of the activation: `x/2·(1 + tanh a)` with `a = √(2/π)·(x + 0.044715·x³)`.
pub(crate) fn gelu<T: Real>(x: T) -> T {
    real::<T>(0.5) * x * (T::one() + gelu_argument(x).tanh())
}

/// `√(2/π)`.
fn root<T: Real>() -> T {
    T::FRAC_2_PI().sqrt()
}

fn gelu_argument<T: Real>(x: T) -> T {
    root::<T>() * (x + real::<T>(0.044_715) * x.powi(3))
}

/// The two terms of its derivative: `(1 + tanh a)/2` and `x/2·(1 − tanh² a)·a′`.
pub(crate) fn gelu_terms<T: Real>(x: T) -> [T; 2] {
    let (half, tanh) = (real::<T>(0.5), gelu_argument(x).tanh());
    let slope = root::<T>() * (T::one() + real::<T>(3.0 * 0.044_715) * x * x);
    [half * (T::one() + tanh), half * x * (T::one() - tanh * tanh) * slope]
}

/// `(1 − ε)·(−log p_y) + ε·mean_c(−log p_c) + ζ·(log Σ exp z)²`, and its gradient.
pub(crate) fn cross_entropy<T: Real>(logits: &[T], target: &Target) -> (T, Vec<T>) {
    let (max, total, softmax) = softmax(logits);
    let classes = real::<T>(logits.len() as f64);
    let mean = logits.iter().map(|&z| z - max).sum::<T>() / classes;
    let log_normaliser = max + total.ln();
    let (spread, z_loss) = (real::<T>(target.label_smoothing), real::<T>(target.z_loss));
    let kept = T::one() - spread;
    let loss = kept * (total.ln() - (logits[target.label] - max))
        + spread * (total.ln() - mean)
        + z_loss * log_normaliser * log_normaliser;
    let normaliser = T::one() + real::<T>(2.0) * z_loss * log_normaliser;
    let mut gradient: Vec<T> = softmax.iter().map(|&p| p * normaliser - spread / classes).collect();
    gradient[target.label] -= kept;
    (loss, gradient)
}

/// The largest of the numbers, `Σ exp(z − largest)`, and their softmax. NaN where there is no largest, as of
/// nothing but −∞.
pub(crate) fn softmax<T: Real>(numbers: &[T]) -> (T, T, Vec<T>) {
    let max = numbers.iter().copied().fold(T::neg_infinity(), T::max);
    let mut softmax: Vec<T> = numbers.iter().map(|&z| (z - max).exp()).collect();
    let total: T = softmax.iter().copied().sum();
    for p in &mut softmax {
        *p /= total;
    }
    (max, total, softmax)
}

pub(crate) fn dot<T: Real>(one: &[T], other: &[T]) -> T {
    one.iter().zip(other).map(|(&a, &b)| a * b).sum()
}

/// Adds `factor` times the others.
pub(crate) fn add<T: Real>(sum: &mut [T], factor: T, others: &[T]) {
    for (sum, &other) in sum.iter_mut().zip(others) {
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
        (Operators::honest().layer_norm_backward)(&row, &mut gradient, &mut sums);
        assert!(gradient.iter().all(|g| g.abs() < 1e-15), "{gradient:?}");
        assert!(sums.bias.iter().all(|g| (g - 1.0).abs() < 1e-15));

        let mut other = [1.0, 2.0, 3.0, 5.0];
        (Operators::honest().layer_norm_backward)(&row, &mut other, &mut sums);
        assert!(other.iter().all(|g| g.abs() > 1e-3), "{other:?}");
    }
}
