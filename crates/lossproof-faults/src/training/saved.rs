//! What is saved, and where a training goes on.

use super::passes::between;
use super::{
    LAWFUL, TrainingFault,
    between::{Between, TrainerHooks},
    fault,
};
use lossproof_loop::{LoopParts, Progress, SeededSampler, Semantics, Settings, Tracked, semantics::Resume};
use lossproof_subject::{SubjectError, Tensor, TensorSet, TensorValues, TrainerState};
use std::collections::BTreeSet;

pub(super) const FAULTS: &[TrainingFault] = &[
    fault(
        "resume-skips-configured-windows",
        LoopParts {
            semantics: Semantics { resume: Resume::ConfiguredWindows, ..LAWFUL.semantics },
            ..LAWFUL
        },
    ),
    fault(
        "resume-reshuffles",
        LoopParts {
            sampler: |settings, samples, resumed| {
                let seed = settings.seed + u64::from(resumed);
                Box::new(SeededSampler::new(samples, &Settings { seed, ..*settings }))
            },
            ..LAWFUL
        },
    ),
    fault(
        "resume-repeats-the-epoch",
        LoopParts { resumed: |_, progress| Progress { micro_batch: 0, ..progress }, ..LAWFUL },
    ),
    fault(
        "resume-restarts-schedule",
        LoopParts { resumed: |_, progress| Progress { updates: 0, validated: 0, ..progress }, ..LAWFUL },
    ),
    fault(
        "resume-loses-moments",
        LoopParts {
            restored: |state| TrainerState {
                first_moments: zeros(&state.first_moments),
                second_moments: zeros(&state.second_moments),
                ..state
            },
            ..LAWFUL
        },
    ),
    fault(
        "resume-loses-adam-count",
        LoopParts { restored: |state| TrainerState { updates: 0, ..state }, ..LAWFUL },
    ),
    fault(
        "resume-loses-tracked-loss",
        LoopParts { resumed: |_, progress| Progress { tracked: Tracked::default(), ..progress }, ..LAWFUL },
    ),
    fault(
        "finished-training-goes-on",
        LoopParts {
            resumed: |_, progress| Progress { finished: false, updates: progress.updates.min(1), ..progress },
            ..LAWFUL
        },
    ),
    fault(
        "resume-skips-validation",
        LoopParts { resumed: |_, progress| Progress { validated: progress.updates, ..progress }, ..LAWFUL },
    ),
    between!(
        "resume-loses-clipping",
        TrainerHooks {
            update: |own, learning_rate, factor| {
                own.inner.update(learning_rate, if own.resumed { 1.0 } else { factor })
            },
            ..TrainerHooks::IDENTITY
        }
    ),
    between!(
        "resume-thaws",
        TrainerHooks {
            restore: |own, state| {
                let begun = own.inner.begin(&own.settings.rule, &own.undecayed, &BTreeSet::new());
                begun.map_err(|refused| SubjectError::failed("lossproof-faults", &refused))?;
                own.inner.restore(state)
            },
            ..TrainerHooks::IDENTITY
        }
    ),
    fault("resume-with-another-window", LoopParts { goes_on: |_, _| true, ..LAWFUL }),
];

fn zeros(moments: &TensorSet) -> TensorSet {
    let mut zeros = TensorSet::new();
    for (name, tensor) in moments {
        let values = match tensor.values() {
            TensorValues::F32(values) => TensorValues::F32(vec![0.0; values.len()]),
            TensorValues::F64(values) => TensorValues::F64(vec![0.0; values.len()]),
        };
        if let Ok(tensor) = Tensor::new(tensor.shape().to_vec(), values) {
            zeros.insert(name.clone(), tensor);
        }
    }
    zeros
}
