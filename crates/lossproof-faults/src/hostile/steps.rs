//! Optimizer steps that are wrong in what a law does not see of them: what it repairs, what it does not wait
//! for, what is logged.

use super::{Hostile, Outcome::Red, hooked, hostile, trainer};
use crate::{
    kit::{HandedOver, Hooks, wrap},
    rules,
    trainer::TrainerParts,
};
use lossproof_spec::Optimizer;
use lossproof_subject::Subject;
use std::{cell::RefCell, rc::Rc};

const HONEST: Hooks<()> = Hooks::IDENTITY;
const TRAINER: TrainerParts = TrainerParts::HONEST;

/// Remembers the parameters from which an optimizer was started, until others are loaded.
pub(super) const REMEMBERS_LOADED: Hooks<HandedOver> = Hooks {
    start: |loaded: &mut HandedOver, inner, optimizer: &Optimizer| {
        (HONEST.start)(&mut (), inner, optimizer)?;
        *loaded = HandedOver::default();
        // A reader that fails is asked again when parameters are asked for.
        let _ = (HONEST.read)(&mut (), inner, loaded);
        Ok(())
    },
    load: |loaded, inner, parameters| {
        *loaded = HandedOver::default();
        (HONEST.load)(&mut (), inner, parameters)
    },
    ..Hooks::IDENTITY
};

pub(super) const SUBJECTS: &[Hostile] = &[
    hostile(
        "step-never-clears",
        "`step` adds to the gradient of the step before, and `accumulate` clears before and after itself",
        Red,
        never_clears,
    ),
    hostile(
        "warm-up-never-capped",
        "the learning rate of the warm-up goes on to grow after its last step",
        Red,
        |honest| {
            let parts = TrainerParts {
                learning_rate: |optimizer, counted| match optimizer.warm_up {
                    0 => optimizer.learning_rate,
                    steps => optimizer.learning_rate * f64::from(counted.steps + 1) / f64::from(steps),
                },
                ..TRAINER
            };
            trainer(honest, parts)
        },
    ),
    hostile(
        "adam-counts-skipped-steps",
        "Adam's step count, which corrects its bias, advances on a step that was skipped",
        Red,
        |honest| {
            let parts = TrainerParts {
                update: |update, values, gradient, moments| {
                    let step = update.step + update.skipped;
                    rules::update(&rules::TensorUpdate { step, ..*update }, values, gradient, moments);
                },
                ..TRAINER
            };
            trainer(honest, parts)
        },
    ),
    hostile("step-logs-twice-the-loss", "a step logs twice the loss of its window", Red, |honest| {
        hooked(honest, Hooks { report: |(), _, report| report.observation.loss *= 2.0, ..HONEST })
    }),
    hostile("step-logs-a-constant", "a step logs the same loss whatever its window", Red, |honest| {
        hooked(honest, Hooks { report: |(), _, report| report.observation.loss = 3.5, ..HONEST })
    }),
    hostile(
        "step-counts-wrong-tokens",
        "a step logs one supervised token more than its window has",
        Red,
        |honest| {
            let hooks = Hooks {
                report: |(), _, report| {
                    let tokens = &mut report.observation.supervised_tokens;
                    *tokens = tokens.map(|tokens| tokens + 1);
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    ),
    hostile(
        "step-logs-twice-each-token-loss",
        "a step logs twice each token loss, as many as there are",
        Red,
        |honest| {
            let hooks = Hooks {
                report: |(), _, report| {
                    for loss in report.observation.token_losses.iter_mut().flatten() {
                        *loss *= 2.0;
                    }
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    ),
    hostile("skips-every-step", "every step is reported as skipped, and changes nothing", Red, |honest| {
        let hooks = Hooks {
            step: |(), inner, batch| {
                let mut before = HandedOver::default();
                (HONEST.read)(&mut (), inner, &mut before)?;
                let mut report = (HONEST.step)(&mut (), inner, batch)?;
                for tensor in &before.tensors {
                    (HONEST.set)(&mut (), inner, &tensor.name, &tensor.values)?;
                }
                (report.skipped, report.clip_factor) = (true, 1.0);
                Ok(report)
            },
            ..HONEST
        };
        hooked(honest, hooks)
    }),
    hostile(
        "accumulate-trains",
        "`accumulate` takes a small step of its own, so that what is read later is no longer what was loaded",
        Red,
        |honest| {
            let hooks = Hooks {
                accumulate: |(), inner, batch, handed| {
                    let observation = inner.accumulate(batch, handed)?;
                    let mut values = HandedOver::default();
                    (HONEST.read)(&mut (), inner, &mut values)?;
                    values.add(-1e-3, handed);
                    for tensor in &values.tensors {
                        if tensor.values.iter().all(|value| value.is_finite()) {
                            (HONEST.set)(&mut (), inner, &tensor.name, &tensor.values)?;
                        }
                    }
                    Ok(observation)
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    ),
    hostile(
        "validation-moves-a-parameter",
        "a validation leaves the final bias a millionth larger than it was",
        Red,
        |honest| {
            let hooks = Hooks {
                validate: |(), inner, batches| {
                    let printed = (HONEST.validate)(&mut (), inner, batches)?;
                    let mut values = HandedOver::default();
                    (HONEST.read)(&mut (), inner, &mut values)?;
                    let bias = values.tensor("ln_f.bias");
                    bias.scale(1.0 + 1e-6);
                    (HONEST.set)(&mut (), inner, &bias.name, &bias.values)?;
                    Ok(printed)
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    ),
    hostile(
        "read-shows-what-was-loaded",
        "the parameters that are shown after a step are those that were loaded before it",
        Red,
        |honest| {
            let hooks = Hooks {
                read: |shown: &mut HandedOver, inner, handed| {
                    if shown.tensors.is_empty() {
                        return (Hooks::IDENTITY.read)(&mut (), inner, handed);
                    }
                    handed.clone_from(shown);
                    Ok(())
                },
                ..REMEMBERS_LOADED
            };
            wrap(honest, HandedOver::default(), hooks)
        },
    ),
];

/// A trainer whose steps find the gradient of the step before, unless somebody called `accumulate` between
/// them.
fn never_clears(honest: Box<dyn Subject>) -> Box<dyn Subject> {
    type Gradient = Rc<RefCell<HandedOver>>;
    let gradient = Gradient::default();
    let accumulating = Hooks {
        accumulate: |gradient: &mut Gradient, inner, batch, handed| {
            let observation = inner.accumulate(batch, handed)?;
            handed.add(1.0, &gradient.borrow());
            gradient.borrow_mut().clone_from(handed);
            Ok(observation)
        },
        ..Hooks::IDENTITY
    };
    let clearing = Hooks {
        reset: |gradient: &mut Gradient, inner| {
            gradient.take();
            inner.reset()
        },
        load: |gradient, inner, parameters| {
            gradient.take();
            (HONEST.load)(&mut (), inner, parameters)
        },
        accumulate: |gradient, inner, batch, handed| {
            gradient.take();
            let observation = inner.accumulate(batch, handed)?;
            gradient.take();
            Ok(observation)
        },
        ..Hooks::IDENTITY
    };
    let inner = wrap(honest, Rc::clone(&gradient), accumulating);
    wrap(trainer(inner, TRAINER), gradient, clearing)
}
