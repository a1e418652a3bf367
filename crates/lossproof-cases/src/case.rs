//! One example a law is tried on.

use crate::{
    batch_in_words::Counts,
    edit::{edit_freely, id},
};
use lossproof_spec::{GlobalBatch, InvalidSpec, LossSpec};
use lossproof_subject::{ParameterInfo, TensorSet, gpt2_initial_of, probe_initial_of};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use std::fmt;

/// One example a law is tried on: everything a verdict depends on, besides the subject. Its serialised form
/// is a case file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the trainer sees.
    pub batch: GlobalBatch,
    /// A loss semantics, for the laws that hold under every one.
    #[serde(deserialize_with = "valid_spec")]
    pub spec: LossSpec,
    /// Where the parameters lie.
    pub scale: Scale,
    /// Upstream weights, repeated over the predictions in order: prediction t has `upstream[t mod length]`.
    /// Never empty.
    #[serde(deserialize_with = "valid_upstream")]
    pub upstream: Vec<f64>,
    /// Fixes the parameters, and every choice a law makes on its own (which sequence, which order).
    pub seed: u64,
}

/// Where the parameters of a case lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Activations and logits of order one: [`probe_initial_of`].
    Probe,
    /// GPT-2's initial scale, where every prediction is nearly uniform: [`gpt2_initial_of`].
    Gpt2,
}

/// What makes a [`Case`] none, besides what makes a batch none.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCase {
    /// No upstream weight.
    #[error("`upstream` is empty: give at least one weight, [1.0] for all predictions alike")]
    NoUpstream,
    /// An upstream weight that is no number.
    #[error("upstream weight {index} is {weight}: every weight must be finite")]
    Upstream {
        /// Its place.
        index: usize,
        /// The weight.
        weight: f64,
    },
    /// A number in the loss spec.
    #[error(transparent)]
    Spec(#[from] InvalidSpec),
}

impl Case {
    /// Checks what the types do not; a case that was deserialised has passed. Whether a subject takes the batch is for
    /// its [`Limits`](lossproof_subject::Limits) to say.
    ///
    /// # Errors
    /// [`InvalidCase`] when `upstream` is empty or not finite, or the spec has a number without a meaning.
    pub fn validate(&self) -> Result<(), InvalidCase> {
        check_upstream(&self.upstream)?;
        Ok(self.spec.validate()?)
    }

    /// The parameters of this case for a model with these.
    #[must_use]
    pub fn parameters(&self, of: &[ParameterInfo]) -> TensorSet {
        match self.scale {
            Scale::Probe => probe_initial_of(of, self.seed),
            Scale::Gpt2 => gpt2_initial_of(of, self.seed),
        }
    }

    /// The same case among other numbers: with other parameters, at which logits differ, and every token another one,
    /// so that what was the same token is.
    #[must_use]
    pub fn in_context(&self, context: u64, vocabulary: usize) -> Self {
        let seed = ChaCha8Rng::seed_from_u64(self.seed ^ context.rotate_left(32)).random();
        let mut names: Vec<u32> = (0..vocabulary).map(id).collect();
        names.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let batch = self.batch.map_sequences(|sequence| {
            edit_freely(sequence, |fields| {
                for token in fields.input_ids.iter_mut().chain(&mut fields.targets) {
                    // What is no token of the vocabulary stays what it is.
                    *token = names.get(*token as usize).copied().unwrap_or(*token);
                }
            })
        });
        Self { batch, seed, scale: Scale::Probe, ..self.clone() }
    }

    /// The upstream weight of every prediction.
    #[must_use]
    pub fn upstream_weights(&self) -> Vec<f64> {
        let repeated = self.upstream.iter().copied().cycle();
        repeated.take(self.batch.predictions().count()).collect()
    }
}

fn check_upstream(weights: &[f64]) -> Result<(), InvalidCase> {
    if weights.is_empty() {
        return Err(InvalidCase::NoUpstream);
    }
    match weights.iter().position(|weight| !weight.is_finite()) {
        Some(index) => Err(InvalidCase::Upstream { index, weight: weights[index] }),
        None => Ok(()),
    }
}

fn valid_spec<'de, D: Deserializer<'de>>(from: D) -> Result<LossSpec, D::Error> {
    let spec = LossSpec::deserialize(from)?;
    spec.validate().map_err(D::Error::custom)?;
    Ok(spec)
}

fn valid_upstream<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let weights = Vec::deserialize(from)?;
    check_upstream(&weights).map_err(D::Error::custom)?;
    Ok(weights)
}

/// In words: the counts first, then everything that is not the simplest.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, under {}", Counts(&self.batch), self.spec)
    }
}
