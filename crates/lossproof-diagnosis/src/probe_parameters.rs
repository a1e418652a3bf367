//! The parameters that probes are made with.

use crate::probes::ProbeState;
use lossproof_laws::{
    KnownLogits,
    names::{BIAS, EMBEDDING},
};
use lossproof_spec::Dtype;
use lossproof_subject::{ParameterInfo, Tensor, TensorSet, TensorValues, probe_initial_of};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Fixes the parameters of the probes.
const SEED: u64 = 5;

/// The parameters that probes are made with, and the closed forms of those under which the logits are known.
pub(crate) struct ProbeParameters {
    general: TensorSet,
    known_logits: Option<(TensorSet, KnownLogits)>,
    offset: Option<(TensorSet, KnownLogits)>,
}

impl ProbeParameters {
    /// Draws values for these parameters of a model with so many tokens, and a cap of its logits if it has
    /// one: a constant on capped logits is none on the others.
    pub(crate) fn new(
        parameters: &[ParameterInfo],
        dtype: Dtype,
        vocabulary: usize,
        cap: Option<f64>,
    ) -> Self {
        let general = probe_initial_of(parameters, SEED);
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let width = general.get(BIAS).map_or(0, Tensor::elements);
        let bias = (0..width).map(|_| f64::from(random.random_range(-128_i32..=128)) / 64.0).collect();
        let mut imposed = general.clone();
        let known_logits =
            KnownLogits::impose(&mut imposed, bias, vocabulary).map(|known| (imposed, known.capped(cap)));
        let mut imposed = general.clone();
        let offset =
            impose_offset(&mut imposed, dtype, vocabulary, &mut random).map(|known| (imposed, known));
        let offset = offset.filter(|_| cap.is_none());
        Self { general, known_logits, offset }
    }

    /// The parameters at O(1).
    pub(crate) fn general(&self) -> &TensorSet {
        &self.general
    }

    /// The parameters of a state; `None` where there are none, because the model is not a GPT-2.
    pub(crate) fn of(&self, state: ProbeState) -> Option<&TensorSet> {
        match state {
            ProbeState::General => Some(&self.general),
            ProbeState::KnownLogits => self.known_logits.as_ref().map(|(parameters, _)| parameters),
            ProbeState::Offset => self.offset.as_ref().map(|(parameters, _)| parameters),
        }
    }

    /// The closed form of a state with known logits.
    pub(crate) fn known_logits(&self, state: ProbeState) -> Option<&KnownLogits> {
        match state {
            ProbeState::General => None,
            ProbeState::KnownLogits => self.known_logits.as_ref().map(|(_, known)| known),
            ProbeState::Offset => self.offset.as_ref().map(|(_, known)| known),
        }
    }
}

/// Known logits that are multiples of 2⁻⁸ below 2⁵, and a constant so large that half of the dtype's digits
/// are left for them: their sum is exact, and a logarithm of their exponentials is not.
fn impose_offset(
    parameters: &mut TensorSet,
    dtype: Dtype,
    vocabulary: usize,
    random: &mut ChaCha8Rng,
) -> Option<KnownLogits> {
    let embedding = parameters.get(EMBEDDING)?;
    let width = embedding.shape().last().copied().filter(|&width| width > 0)?;
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
    KnownLogits::impose(parameters, bias, vocabulary)
}
