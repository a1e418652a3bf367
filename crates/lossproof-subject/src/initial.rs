//! Parameters to start from, for any model with GPT-2's parameter names.

use crate::{Tensor, TensorSet, TensorValues};
use rand::rngs::ChaCha8Rng;
use rand::{SeedableRng, distr::Distribution};
use rand_distr::StandardNormal;
use rayon::prelude::*;

/// GPT-2's initial parameters (Radford et al. 2019; Hugging Face's `_init_weights`): weights N(0, 0.02²), the output
/// projections of both residual branches N(0, (0.02/√(2·layers))²), biases 0, layer-norm gains 1. Values are exact in f32.
///
/// `parameters` are names and shapes; each tensor has a random stream of its own, by its place.
#[must_use]
pub fn gpt2_initial(parameters: &[(String, Vec<usize>)], seed: u64) -> TensorSet {
    let residual = 0.02 / (2.0 * layers(parameters)).sqrt();
    generate(parameters, seed, |name| match kind(name) {
        Kind::Gain => (1.0, 0.0),
        Kind::Bias => (0.0, 0.0),
        Kind::Residual => (0.0, residual),
        Kind::Weight => (0.0, 0.02),
    })
}

/// Parameters to probe a model at: like [`gpt2_initial`], but with no value that hides anything. Biases and gains are
/// perturbed (a zero bias hides a missing one, a unit gain a misplaced one), and weights are scaled so that attention is
/// not uniform and the activations of every block stay O(1): N(0, 1/fan-in), and N(0, 0.3²) for the embeddings of a
/// small model. Values are exact in f32, so that f32 and f64 trainers start from the same point.
#[must_use]
pub fn probe_initial(parameters: &[(String, Vec<usize>)], seed: u64) -> TensorSet {
    let law = probe_law(parameters);
    generate(parameters, seed, law)
}

/// The values of one parameter of [`probe_initial`], by its index: for models of which one tensor at a time is drawn.
///
/// # Panics
/// When there are not that many parameters.
#[must_use]
pub fn probe_values(parameters: &[(String, Vec<usize>)], index: usize, seed: u64) -> Vec<f32> {
    draw(parameters, index, seed, probe_law(parameters))
}

/// Mean and standard deviation of each parameter.
fn probe_law(parameters: &[(String, Vec<usize>)]) -> impl Fn(&str) -> (f64, f64) + Sync + use<> {
    let width = width(parameters);
    // The head is the embedding: logits of O(1) need embeddings no larger than 1/√width.
    let embedding = (1.0 / width.sqrt()).min(0.3);
    let residual = 1.0 / (2.0 * layers(parameters) * width).sqrt();
    move |name| match kind(name) {
        Kind::Gain => (1.0, 0.1),
        Kind::Bias => (0.0, 0.1),
        Kind::Residual => (0.0, residual),
        Kind::Weight if name.starts_with('w') => (0.0, embedding),
        Kind::Weight => (0.0, 1.0 / width.sqrt()),
    }
}

/// Width of the residual stream: the last dimension of the first parameter with two dimensions, the embedding.
fn width(parameters: &[(String, Vec<usize>)]) -> f64 {
    let matrix = parameters.iter().find(|(_, shape)| shape.len() == 2);
    matrix.map_or(1.0, |(_, shape)| shape[1] as f64)
}

/// Number of blocks, each of which has one `mlp.c_proj.weight`.
fn layers(parameters: &[(String, Vec<usize>)]) -> f64 {
    parameters.iter().filter(|(name, _)| name.ends_with("mlp.c_proj.weight")).count().max(1) as f64
}

enum Kind {
    Gain,
    Bias,
    Residual,
    Weight,
}

fn kind(name: &str) -> Kind {
    if name.rsplit('.').next() == Some("bias") {
        Kind::Bias
    } else if name.contains("ln_") {
        Kind::Gain
    } else if name.contains("c_proj") {
        Kind::Residual
    } else {
        Kind::Weight
    }
}

fn generate(
    parameters: &[(String, Vec<usize>)],
    seed: u64,
    law: impl Fn(&str) -> (f64, f64) + Sync,
) -> TensorSet {
    let tensor = |(index, (name, shape)): (usize, &(String, Vec<usize>))| {
        let values = TensorValues::F32(draw(parameters, index, seed, &law));
        (name.clone(), Tensor::new(shape.clone(), values).expect("invariant: the shape was filled"))
    };
    parameters.par_iter().enumerate().map(tensor).collect()
}

fn draw(
    parameters: &[(String, Vec<usize>)],
    index: usize,
    seed: u64,
    law: impl Fn(&str) -> (f64, f64),
) -> Vec<f32> {
    let (name, shape) = &parameters[index];
    let (mean, deviation) = law(name);
    // A stream per tensor: one tensor's values do not depend on another's size.
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(index as u64);
    #[expect(clippy::cast_possible_truncation, reason = "parameters are f32 values by definition")]
    let mut value = || {
        let normal: f64 = StandardNormal.sample(&mut generator);
        (mean + deviation * normal) as f32
    };
    (0..shape.iter().product()).map(|_| value()).collect()
}
