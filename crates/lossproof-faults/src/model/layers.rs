//! Linear maps and layer norms: forward, and backward from what the forward kept.

use super::{
    Real,
    operators::{GainAndBias, Normed, add, dot},
    real,
    transformer::Transformer,
};
use crate::tensors::NamedTensors;

/// What a layer norm keeps for its backward.
pub(super) struct LayerNorm<T> {
    pub(super) output: Vec<T>,
    normed: Vec<T>,
    inverse_deviations: Vec<T>,
}

fn weight(name: &str) -> String {
    format!("{name}.weight")
}

fn bias(name: &str) -> String {
    format!("{name}.bias")
}

impl<T: Real> Transformer<'_, T> {
    /// `x·W + b`, `W` as `[in, out]`, for every row of `x`.
    pub(super) fn linear(&self, name: &str, x: &[T]) -> Vec<T> {
        let (weight, bias) = (self.parameters.of(&weight(name)), self.parameters.of(&bias(name)));
        let (inputs, outputs) = (weight.len() / bias.len(), bias.len());
        let mut y = Vec::with_capacity(x.len() / inputs * outputs);
        for row in x.chunks_exact(inputs) {
            let start = y.len();
            y.extend_from_slice(bias);
            for (x, weights) in row.iter().zip(weight.chunks_exact(outputs)) {
                add(&mut y[start..], *x, weights);
            }
        }
        y
    }

    /// The gradient of `x`; those of `W` and `b` are added to `gradient`.
    pub(super) fn linear_backward(
        &self,
        name: &str,
        x: &[T],
        upstream: &[T],
        gradient: &mut NamedTensors<T>,
    ) -> Vec<T> {
        let parameters = self.parameters.of(&weight(name));
        let of_bias = gradient.of_mut(&bias(name));
        let (inputs, outputs) = (parameters.len() / of_bias.len(), of_bias.len());
        upstream.chunks_exact(outputs).for_each(|g| add(of_bias, T::one(), g));
        let of_weight = gradient.of_mut(&weight(name));
        let mut of_x = Vec::with_capacity(x.len());
        for (row, g) in x.chunks_exact(inputs).zip(upstream.chunks_exact(outputs)) {
            for (x, sums) in row.iter().zip(of_weight.chunks_exact_mut(outputs)) {
                add(sums, *x, g);
            }
            of_x.extend(parameters.chunks_exact(outputs).map(|weights| dot(weights, g)));
        }
        of_x
    }

    pub(super) fn layer_norm(&self, name: &str, x: &[T]) -> LayerNorm<T> {
        let (gain, bias) = (self.parameters.of(&weight(name)), self.parameters.of(&bias(name)));
        let mut kept = LayerNorm { output: Vec::new(), normed: Vec::new(), inverse_deviations: Vec::new() };
        for row in x.chunks_exact(gain.len()) {
            let columns = real::<T>(row.len() as f64);
            let mean = row.iter().copied().sum::<T>() / columns;
            let variance = row.iter().map(|&x| (x - mean).powi(2)).sum::<T>() / columns;
            let inverse = (self.operators.inverse_deviation)(variance);
            for ((&x, &gain), &bias) in row.iter().zip(gain).zip(bias) {
                let normed = (x - mean) * inverse;
                kept.normed.push(normed);
                kept.output.push(normed * gain + bias);
            }
            kept.inverse_deviations.push(inverse);
        }
        kept
    }

    /// The gradient of the input; those of gain and bias are added to `gradient`.
    pub(super) fn layer_norm_backward(
        &self,
        name: &str,
        kept: &LayerNorm<T>,
        mut upstream: Vec<T>,
        gradient: &mut NamedTensors<T>,
    ) -> Vec<T> {
        let gain = self.parameters.of(&weight(name));
        let mut sums = GainAndBias { gain: vec![T::zero(); gain.len()], bias: vec![T::zero(); gain.len()] };
        let rows = kept.normed.chunks_exact(gain.len()).zip(&kept.inverse_deviations);
        for ((values, &inverse_deviation), row) in rows.zip(upstream.chunks_exact_mut(gain.len())) {
            let normed = Normed { values, inverse_deviation, gain };
            (self.operators.layer_norm_backward)(&normed, row, &mut sums);
        }
        add(gradient.of_mut(&weight(name)), T::one(), &sums.gain);
        add(gradient.of_mut(&bias(name)), T::one(), &sums.bias);
        upstream
    }
}
