//! Clipping, what is cleared, and what is moved.

use super::passes::between;
use super::{
    LAWFUL, TrainingFault,
    between::{Between, TrainerHooks},
    fault,
};
use lossproof_loop::{LoopParts, Settings};
use lossproof_spec::{Adam, Decayed, Rule};
use lossproof_subject::{SubjectError, Tensor, TensorValues, state_of};
use std::collections::BTreeSet;

const IDENTITY: TrainerHooks = TrainerHooks::IDENTITY;

pub(super) const FAULTS: &[TrainingFault] = &[
    between!(
        "clip-discarded",
        TrainerHooks { update: |own, learning_rate, _| own.inner.update(learning_rate, 1.0), ..IDENTITY }
    ),
    between!(
        "weights-clipped",
        TrainerHooks {
            update: |own, learning_rate, factor| {
                own.inner.update(learning_rate, 1.0)?;
                scale_parameters(own, factor)
            },
            ..IDENTITY
        }
    ),
    between!(
        "clip-by-last-norm",
        TrainerHooks {
            update: |own, learning_rate, factor| {
                let norm = lossproof_numerics::norm(&own.inner.gradient_norms()?);
                let last = own.last_norm.replace(norm);
                let factor = match (own.settings.clip, last) {
                    (Some(clip), Some(last)) => clip.factor(last),
                    (Some(_), None) => 1.0,
                    (None, _) => factor,
                };
                own.inner.update(learning_rate, factor)
            },
            ..IDENTITY
        }
    ),
    between!(
        "clip-by-one-parameter",
        TrainerHooks {
            norms: |own| {
                let mut norms = own.inner.gradient_norms()?;
                for norm in norms.iter_mut().skip(1) {
                    *norm = 0.0;
                }
                Ok(norms)
            },
            ..IDENTITY
        }
    ),
    between!("gradient-not-cleared", TrainerHooks { zero: |_| Ok(()), ..IDENTITY }),
    between!("frozen-moves", TrainerHooks { frozen: |_| BTreeSet::new(), ..IDENTITY }),
    between!(
        "frozen-in-clip-norm",
        TrainerHooks {
            norms: |own| {
                let mut norms = own.inner.gradient_norms()?;
                let frozen: Vec<bool> =
                    own.inner.parameters().iter().map(|info| own.frozen.contains(&info.name)).collect();
                let of_frozen = norms.iter().zip(&frozen).filter(|(_, frozen)| **frozen);
                let of_frozen =
                    lossproof_numerics::norm(&of_frozen.map(|(norm, _)| *norm).collect::<Vec<_>>());
                if let Some((first, _)) = norms.iter_mut().zip(&frozen).find(|(_, frozen)| !**frozen) {
                    *first = first.hypot(of_frozen);
                }
                Ok(norms)
            },
            ..IDENTITY
        }
    ),
    fault(
        "decay-groups-ignored",
        LoopParts {
            settings: |settings| match settings.rule {
                Rule::AdamW(adam) => {
                    Settings { rule: Rule::AdamW(Adam { decayed: Decayed::All, ..adam }), ..settings }
                }
                _ => settings,
            },
            ..LAWFUL
        },
    ),
];

/// Multiplies every parameter.
fn scale_parameters(own: &mut Between<'_>, factor: f64) -> Result<(), SubjectError> {
    let mut state = state_of(own.inner)?;
    for tensor in state.parameters.values_mut() {
        *tensor = scaled(tensor, factor);
    }
    own.inner.restore(&state)
}

/// A tensor times a factor, in its element type.
pub(super) fn scaled(tensor: &Tensor, factor: f64) -> Tensor {
    let values = match tensor.values() {
        TensorValues::F64(values) => TensorValues::F64(values.iter().map(|value| value * factor).collect()),
        #[expect(clippy::cast_possible_truncation, reason = "the trainer's own element type")]
        TensorValues::F32(values) => {
            TensorValues::F32(values.iter().map(|&value| (f64::from(value) * factor) as f32).collect())
        }
    };
    Tensor::new(tensor.shape().to_vec(), values).unwrap_or_else(|_| tensor.clone())
}
