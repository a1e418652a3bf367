//! The parameters that probes are made with.

use crate::probes::ProbeState;
use lossproof_laws::KnownLogits;
use lossproof_spec::{Dtype, Role};
use lossproof_subject::{ModelInfo, ParameterInfo, Tensor, TensorSet, TensorValues, probe_initial_of};
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
    /// Draws values for these parameters of a model with so many tokens.
    pub(crate) fn new(
        parameters: &[ParameterInfo],
        dtype: Dtype,
        vocabulary: usize,
        model: &ModelInfo,
    ) -> Self {
        let general = probe_initial_of(parameters, SEED);
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let table = parameters.iter().find(|parameter| parameter.role == Role::TokenEmbedding);
        let width = table.and_then(|table| table.shape.last().copied()).unwrap_or(0);
        let bias = (0..width).map(|_| f64::from(random.random_range(-128_i32..=128)) / 64.0).collect();
        let mut imposed = general.clone();
        let known = KnownLogits::of_any_head(&mut imposed, parameters, model, bias, vocabulary);
        let known_logits = known.map(|known| (imposed, known));
        let mut imposed = general.clone();
        let rounded = table.and_then(|table| round(&mut imposed, &table.name));
        // A constant on the products is none on capped logits, and not exact on most scaled ones.
        let offset = rounded.and_then(|()| {
            let scale = model.exact_logit_scale()?;
            let bias = offset_bias(width, dtype, &mut random).iter().map(|value| value / scale).collect();
            KnownLogits::behind_the_final_norm(&mut imposed, parameters, model, bias, vocabulary)
        });
        let offset = offset.map(|known| (imposed, known));
        Self { general, known_logits, offset }
    }

    /// The parameters at O(1).
    pub(crate) fn general(&self) -> &TensorSet {
        &self.general
    }

    /// The parameters of a state; `None` where there are none, because the logits are not known.
    pub(crate) fn of(&self, state: ProbeState) -> Option<&TensorSet> {
        match state {
            ProbeState::Own => None,
            ProbeState::General => Some(&self.general),
            ProbeState::KnownLogits => self.known_logits.as_ref().map(|(parameters, _)| parameters),
            ProbeState::Offset => self.offset.as_ref().map(|(parameters, _)| parameters),
        }
    }

    /// The closed form of a state with known logits.
    pub(crate) fn known_logits(&self, state: ProbeState) -> Option<&KnownLogits> {
        match state {
            ProbeState::General | ProbeState::Own => None,
            ProbeState::KnownLogits => self.known_logits.as_ref().map(|(_, known)| known),
            ProbeState::Offset => self.offset.as_ref().map(|(_, known)| known),
        }
    }
}

/// Rounds an embedding to multiples of 2⁻⁵ up to 1, its first column being one: with
/// [`offset_bias`] the logits are multiples of 2⁻⁸ below 2⁵, and a constant.
fn round(parameters: &mut TensorSet, embedding: &str) -> Option<()> {
    let table = parameters.get(embedding)?;
    let width = table.shape().last().copied().filter(|&width| width > 0)?;
    let mut values = table.to_f64();
    for row in values.chunks_exact_mut(width) {
        for value in row.iter_mut() {
            *value = (*value * 32.0).round().clamp(-32.0, 32.0) / 32.0;
        }
        row[0] = 1.0;
    }
    let rounded = Tensor::new(table.shape().to_vec(), TensorValues::F64(values)).ok()?;
    parameters.insert(embedding.to_owned(), rounded).map(drop)
}

/// A constant so large that half of the dtype's digits are left for the logits, and multiples of 2⁻³: their
/// sum is exact, and a logarithm of their exponentials is not.
fn offset_bias(width: usize, dtype: Dtype, random: &mut ChaCha8Rng) -> Vec<f64> {
    let constant = if dtype == Dtype::F64 { 2.0_f64.powi(38) } else { 2.0_f64.powi(15) };
    let mut bias: Vec<f64> = (0..width).map(|_| f64::from(random.random_range(-8_i32..=8)) / 8.0).collect();
    if let Some(first) = bias.first_mut() {
        *first = constant;
    }
    bias
}
