//! Parameters to start from, for any model that declares its parameters' roles or has names that imply them.

use crate::{ParameterInfo, Tensor, TensorSet, TensorValues};
use lossproof_spec::Role;
use rand::rngs::ChaCha8Rng;
use rand::{SeedableRng, distr::Distribution};
use rand_distr::StandardNormal;
use rayon::prelude::*;

/// A parameter's name, shape and role.
type Declared = (String, Vec<usize>, Role);

/// Parameters by names that imply their roles.
fn named(parameters: &[(String, Vec<usize>)]) -> Vec<Declared> {
    let declared = |(name, shape): &(String, Vec<usize>)| (name.clone(), shape.clone(), Role::of_name(name));
    parameters.iter().map(declared).collect()
}

fn declared(parameters: &[ParameterInfo]) -> Vec<Declared> {
    parameters.iter().map(|info| (info.name.clone(), info.shape.clone(), info.role)).collect()
}

/// GPT-2's initial parameters (Radford et al. 2019; Hugging Face's `_init_weights`): weights N(0, 0.02²), the output
/// projections of both residual branches N(0, (0.02/√(2·layers))²), biases 0, gains of norms at their unit.
/// Values are exact in f32.
///
/// `parameters` are names, which imply roles, and shapes; each tensor has a random stream of its own, by its
/// place.
#[must_use]
pub fn gpt2_initial(parameters: &[(String, Vec<usize>)], seed: u64) -> TensorSet {
    let parameters = named(parameters);
    generate(&parameters, seed, gpt2_law(&parameters))
}

/// [`gpt2_initial`] of parameters with declared roles.
#[must_use]
pub fn gpt2_initial_of(parameters: &[ParameterInfo], seed: u64) -> TensorSet {
    let parameters = declared(parameters);
    generate(&parameters, seed, gpt2_law(&parameters))
}

/// Parameters to probe a model at: like [`gpt2_initial`], but with no value that hides anything. Biases and gains are
/// perturbed (a zero bias hides a missing one, a unit gain a misplaced one), and weights are scaled so that
/// attention is not uniform and the activations of every block stay O(1): N(0, 1/fan-in), and N(0, 0.3²) for
/// the embeddings of a small model. Values are exact in f32, so that f32 and f64 trainers start from the same point.
#[must_use]
pub fn probe_initial(parameters: &[(String, Vec<usize>)], seed: u64) -> TensorSet {
    let parameters = named(parameters);
    generate(&parameters, seed, probe_law(&parameters))
}

/// [`probe_initial`] of parameters with declared roles.
#[must_use]
pub fn probe_initial_of(parameters: &[ParameterInfo], seed: u64) -> TensorSet {
    let parameters = declared(parameters);
    generate(&parameters, seed, probe_law(&parameters))
}

/// The values of one parameter of [`probe_initial`], by its index: for models of which one tensor at a time is drawn.
///
/// # Panics
/// When there are not that many parameters.
#[must_use]
pub fn probe_values(parameters: &[(String, Vec<usize>)], index: usize, seed: u64) -> Vec<f32> {
    let parameters = named(parameters);
    draw(&parameters, index, seed, probe_law(&parameters))
}

/// Mean and standard deviation of each role in [`gpt2_initial`].
fn gpt2_law(parameters: &[Declared]) -> impl Fn(Role) -> (f64, f64) + Sync + use<> {
    let residual = 0.02 / (2.0 * layers(parameters)).sqrt();
    move |role| match role {
        Role::NormGain | Role::FinalNormGain => (1.0, 0.0),
        Role::NormGainFromZero => (0.0, 0.0),
        Role::BlockOutput => (0.0, residual),
        role if role.is_scale() => (1.0, 0.0),
        role if role.is_bias() => (0.0, 0.0),
        _ => (0.0, 0.02),
    }
}

/// The same in [`probe_initial`].
fn probe_law(parameters: &[Declared]) -> impl Fn(Role) -> (f64, f64) + Sync + use<> {
    let width = width(parameters);
    // The head may be the embedding: logits of O(1) need embeddings no larger than 1/√width.
    let embedding = (1.0 / width.sqrt()).min(0.3);
    let residual = 1.0 / (2.0 * layers(parameters) * width).sqrt();
    move |role| match role {
        Role::NormGain | Role::FinalNormGain => (1.0, 0.1),
        Role::NormGainFromZero => (0.0, 0.1),
        Role::BlockOutput => (0.0, residual),
        Role::TokenEmbedding | Role::PositionEmbedding => (0.0, embedding),
        role if role.is_scale() => (1.0, 0.1),
        role if role.is_bias() => (0.0, 0.1),
        _ => (0.0, 1.0 / width.sqrt()),
    }
}

/// Width of the residual stream: the last dimension of the first parameter with two dimensions, the embedding.
fn width(parameters: &[Declared]) -> f64 {
    let matrix = parameters.iter().find(|(_, shape, _)| shape.len() == 2);
    matrix.map_or(1.0, |(_, shape, _)| shape[1] as f64)
}

/// Number of blocks, each of which writes into the residual stream twice: after attention and after its
/// perceptron.
fn layers(parameters: &[Declared]) -> f64 {
    let outputs = parameters.iter().filter(|(_, _, role)| *role == Role::BlockOutput).count();
    outputs.div_ceil(2).max(1) as f64
}

fn generate(parameters: &[Declared], seed: u64, law: impl Fn(Role) -> (f64, f64) + Sync) -> TensorSet {
    let tensor = |(index, (name, shape, _)): (usize, &Declared)| {
        let values = TensorValues::F32(draw(parameters, index, seed, &law));
        (name.clone(), Tensor::new(shape.clone(), values).expect("invariant: the shape was filled"))
    };
    parameters.par_iter().enumerate().map(tensor).collect()
}

fn draw(parameters: &[Declared], index: usize, seed: u64, law: impl Fn(Role) -> (f64, f64)) -> Vec<f32> {
    let (_, shape, role) = &parameters[index];
    let (mean, deviation) = law(*role);
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
