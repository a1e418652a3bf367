//! Answers that depend on what was asked before: stale ones, drifting ones, ones that change once nobody
//! expects it.

use super::{
    Hostile,
    Outcome::{Errored, Red},
    hostile,
};
use crate::kit::{HandedOver, Hooks, wrap};
use lossproof_spec::{GlobalBatch, LossSpec};
use lossproof_subject::{Observation, Subject, SubjectError};
use std::collections::BTreeMap;

pub(super) const SUBJECTS: &[Hostile] = &[
    hostile(
        "remembers-batches-by-their-layout",
        "a batch with the layout of an earlier one gets its answer, until parameters are loaded",
        Red,
        |honest| {
            let hooks = Hooks {
                reset: |memory: &mut Remembered, inner| {
                    memory.answers.clear();
                    inner.reset()
                },
                load: |memory, inner, parameters| {
                    memory.answers.clear();
                    (Hooks::IDENTITY.load)(&mut (), inner, parameters)
                },
                configure: |memory, inner, spec| {
                    memory.spec = Some(*spec);
                    inner.configure(spec)
                },
                accumulate: remembered,
                ..Hooks::IDENTITY
            };
            wrap(honest, Remembered::default(), hooks)
        },
    ),
    hostile(
        "loss-of-the-batch-before",
        "reports the loss of the batch that came before, and the gradient of this one",
        Red,
        |honest| {
            let hooks = Hooks {
                observation: |before: &mut Option<f64>, _, observed| {
                    let now = observed.loss;
                    observed.loss = before.replace(now).unwrap_or(now);
                },
                ..Hooks::IDENTITY
            };
            wrap(honest, None, hooks)
        },
    ),
    hostile("drifts", "each gradient is a thousandth larger than the one before", Errored, |honest| {
        let hooks = Hooks {
            gradient: |calls: &mut f64, _, handed| {
                *calls += 1.0;
                handed.scale(1.0 + 1e-3 * *calls);
            },
            ..Hooks::IDENTITY
        };
        wrap(honest, 0.0, hooks)
    }),
    hostile(
        "honest-for-five-hundred-calls",
        "after five hundred gradients each has one tensor that is a hundredth too large",
        Red,
        |honest| {
            let hooks = Hooks {
                gradient: |calls: &mut u32, _, handed| {
                    *calls += 1;
                    if *calls > 500 {
                        handed.tensor("h.0.mlp.c_fc.weight").scale(1.01);
                    }
                },
                ..Hooks::IDENTITY
            };
            wrap(honest, 0, hooks)
        },
    ),
    hostile(
        "divisor-left-over-from-training",
        "a validation divides the sum of its token losses by the tokens of the last training window",
        Red,
        |honest| {
            let hooks = Hooks {
                observation: |tokens: &mut Option<usize>, batch, _| {
                    *tokens = Some(batch.layout().supervised()).filter(|&tokens| tokens > 0);
                },
                printed: |tokens, _, printed| {
                    if let Some(tokens) = *tokens {
                        printed.loss *= printed.tokens as f64 / tokens as f64;
                        printed.perplexity = printed.loss.exp();
                    }
                },
                ..Hooks::IDENTITY
            };
            wrap(honest, None, hooks)
        },
    ),
    hostile("set-is-forgotten", "`set` takes the values of a parameter and changes nothing", Red, |honest| {
        wrap(honest, (), Hooks { set: |(), _, _, _| Ok(()), ..Hooks::IDENTITY })
    }),
    hostile(
        "load-keeps-one-parameter",
        "`load` replaces all parameters but the final bias, which stays what it was",
        Red,
        |honest| {
            let hooks = Hooks {
                load: |(), inner, parameters| {
                    let mut kept = HandedOver::default();
                    (Hooks::IDENTITY.read)(&mut (), inner, &mut kept)?;
                    (Hooks::IDENTITY.load)(&mut (), inner, parameters)?;
                    let bias = kept.tensor("ln_f.bias");
                    (Hooks::IDENTITY.set)(&mut (), inner, &bias.name, &bias.values)
                },
                ..Hooks::IDENTITY
            };
            wrap(honest, (), hooks)
        },
    ),
];

/// What was answered under each loss spec to batches of each layout.
#[derive(Default)]
struct Remembered {
    spec: Option<LossSpec>,
    answers: BTreeMap<String, (Observation, HandedOver)>,
}

fn remembered(
    memory: &mut Remembered,
    inner: &mut dyn Subject,
    batch: &GlobalBatch,
    handed: &mut HandedOver,
) -> Result<Observation, SubjectError> {
    let key = format!("{:?}, {:?}", memory.spec, batch.layout());
    if let Some((observation, gradient)) = memory.answers.get(&key) {
        handed.clone_from(gradient);
        return Ok(observation.clone());
    }
    let observation = inner.accumulate(batch, handed)?;
    memory.answers.insert(key, (observation.clone(), handed.clone()));
    Ok(observation)
}
