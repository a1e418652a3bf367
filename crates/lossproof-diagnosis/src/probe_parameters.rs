//! Parameters that probes are made with.

use super::{
    oracle::{Pinned, named},
    probes::State,
};
use lossproof_laws::names::{BIAS, EMBEDDING};
use lossproof_spec::Dtype;
use lossproof_subject::{ParameterInfo, Tensor, TensorSet, TensorValues, probe_initial};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Fixes the parameters of the probes.
const SEED: u64 = 5;

/// Parameters of the probes.
pub(super) struct States {
    pub(super) general: TensorSet,
    pinned: Option<(TensorSet, Pinned)>,
    offset: Option<(TensorSet, Pinned)>,
}

impl States {
    pub(super) fn new(parameters: &[ParameterInfo], dtype: Dtype) -> Self {
        let general = probe_initial(&named(parameters), SEED);
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let width = general.get(BIAS).map_or(0, Tensor::elements);
        let mut pinned = general.clone();
        let bias = (0..width).map(|_| f64::from(random.random_range(-128_i32..=128)) / 64.0).collect();
        let pinned = Pinned::pin(&mut pinned, bias).map(|pin| (pinned, pin));
        let mut offset = general.clone();
        let offset = exact(&mut offset, dtype, &mut random).map(|pin| (offset, pin));
        Self { general, pinned, offset }
    }

    /// The parameters of a state; `None` where they are not a GPT-2's.
    pub(super) fn of(&self, state: State) -> Option<&TensorSet> {
        match state {
            State::General => Some(&self.general),
            State::Pinned => self.pinned.as_ref().map(|(parameters, _)| parameters),
            State::Offset => self.offset.as_ref().map(|(parameters, _)| parameters),
        }
    }

    /// The closed form of a state with known logits.
    pub(super) fn pin(&mut self, state: State) -> Option<&mut Pinned> {
        match state {
            State::General => None,
            State::Pinned => self.pinned.as_mut().map(|(_, pin)| pin),
            State::Offset => self.offset.as_mut().map(|(_, pin)| pin),
        }
    }
}

/// Logits that are multiples of 2⁻⁸ below 2⁵, and a constant so large that half of the dtype's digits are left for them:
/// their sum is exact, and a logarithm of their exponentials is not.
fn exact(parameters: &mut TensorSet, dtype: Dtype, random: &mut ChaCha8Rng) -> Option<Pinned> {
    let embedding = parameters.get(EMBEDDING)?;
    let width = *embedding.shape().last()?;
    let mut values = embedding.to_f64();
    for row in values.chunks_exact_mut(width) {
        for value in row.iter_mut() {
            *value = (*value * 32.0).round().clamp(-32.0, 32.0) / 32.0;
        }
        row[0] = 1.0;
    }
    let shape = embedding.shape().to_vec();
    let rounded = Tensor::new(shape, TensorValues::F64(values)).ok()?;
    parameters.insert(EMBEDDING.to_owned(), rounded);
    let constant = if dtype == Dtype::F64 { 2.0_f64.powi(38) } else { 2.0_f64.powi(15) };
    let mut bias: Vec<f64> = (0..width).map(|_| f64::from(random.random_range(-8_i32..=8)) / 8.0).collect();
    bias[0] = constant;
    Pinned::pin(parameters, bias)
}
