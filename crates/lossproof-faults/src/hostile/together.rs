//! Subjects that are right in every part and wrong where parts meet: clipping under Adam, an evaluation
//! between two steps, a z-loss below the head, a value that is set and differentiated.

use super::{Hostile, Outcome::Red, hostile, steps::REMEMBERS_LOADED, trainer};
use crate::{
    kit::{HandedOver, Hooks, wrap},
    rules,
    trainer::TrainerParts,
};
use lossproof_spec::{GlobalBatch, LossSpec, Optimizer, Rule, TokenWeights};
use lossproof_subject::{Observation, Subject, SubjectError, TensorSet, Unsupported};

const TRAINER: TrainerParts = TrainerParts::HONEST;

/// The parameter whose gradient nobody is to look at.
const HIDDEN: &str = "h.0.mlp.c_fc.bias";

/// The parameters that a head with known logits shows.
const SHOWN: [&str; 3] = ["wte.weight", "ln_f.weight", "ln_f.bias"];

pub(super) const SUBJECTS: &[Hostile] = &[
    hostile(
        "adam-ignores-clip",
        "the clip factor is measured and reported, and Adam takes the gradient as it was before",
        Red,
        |honest| {
            let parts = TrainerParts {
                clip: |optimizer, parameters, gradient| {
                    let clipped = (TRAINER.clip)(optimizer, parameters, gradient);
                    if !matches!(optimizer.rule, Rule::Sgd { .. }) {
                        gradient.scale(1.0 / clipped.factor);
                    }
                    clipped
                },
                ..TRAINER
            };
            trainer(honest, parts)
        },
    ),
    hostile(
        "rate-inside-the-velocity",
        "SGD gathers its velocity of steps at the rate of each, which shows while the rate changes",
        Red,
        |honest| {
            let parts = TrainerParts {
                update: |update, values, gradient, moments| {
                    let Rule::Sgd { momentum, weight_decay } = update.rule else {
                        return rules::update(update, values, gradient, moments);
                    };
                    moments.first.resize(values.len(), 0.0);
                    for ((value, g), velocity) in values.iter_mut().zip(gradient).zip(&mut moments.first) {
                        let step = update.learning_rate * (g + weight_decay * *value);
                        *velocity = momentum * *velocity + step;
                        *value -= *velocity;
                    }
                },
                ..TRAINER
            };
            trainer(honest, parts)
        },
    ),
    hostile("stops-after-six-steps", "from the seventh step on nothing is updated any more", Red, |honest| {
        let parts = TrainerParts {
            update: |update, values, gradient, moments| {
                if update.step <= 6 {
                    rules::update(update, values, gradient, moments);
                }
            },
            ..TRAINER
        };
        trainer(honest, parts)
    }),
    hostile(
        "evaluates-before-the-step",
        "an evaluation is of the parameters that were loaded last, whatever steps were taken since",
        Red,
        |honest| {
            let hooks = Hooks {
                set: |loaded: &mut HandedOver, inner, name, values| {
                    *loaded = HandedOver::default();
                    (Hooks::IDENTITY.set)(&mut (), inner, name, values)
                },
                evaluate: |loaded, inner, batch| {
                    if loaded.tensors.is_empty() {
                        return (Hooks::IDENTITY.evaluate)(&mut (), inner, batch);
                    }
                    let mut now = HandedOver::default();
                    (Hooks::IDENTITY.read)(&mut (), inner, &mut now)?;
                    set_all(inner, loaded)?;
                    let losses = (Hooks::IDENTITY.evaluate)(&mut (), inner, batch);
                    set_all(inner, &now)?;
                    losses
                },
                ..REMEMBERS_LOADED
            };
            wrap(honest, HandedOver::default(), hooks)
        },
    ),
    hostile(
        "validation-restarts-the-optimizer",
        "a validation between two steps forgets Adam's moments and begins the schedule anew",
        Red,
        |honest| {
            let hooks = Hooks {
                start: |running: &mut Option<Optimizer>, inner, optimizer: &Optimizer| {
                    *running = Some(*optimizer);
                    (Hooks::IDENTITY.start)(&mut (), inner, optimizer)
                },
                validate: |running, inner, batches| {
                    let printed = (Hooks::IDENTITY.validate)(&mut (), inner, batches)?;
                    if let Some(optimizer) = running {
                        (Hooks::IDENTITY.start)(&mut (), inner, optimizer).ok();
                    }
                    Ok(printed)
                },
                ..Hooks::IDENTITY
            };
            wrap(honest, None, hooks)
        },
    ),
    hostile(
        "set-exaggerates",
        "`set` moves one parameter twice as far as it is told, and its gradient is doubled",
        Red,
        |honest| {
            let hooks = Hooks {
                load: |loaded: &mut TensorSet, inner, parameters: &TensorSet| {
                    loaded.clone_from(parameters);
                    (Hooks::IDENTITY.load)(&mut (), inner, parameters)
                },
                set: |loaded, inner, name, values| {
                    let mut further = values.to_vec();
                    if let Some(tensor) = loaded.get(name).filter(|_| name == HIDDEN) {
                        for (value, from) in further.iter_mut().zip(tensor.to_f64()) {
                            *value = from + 2.0 * (*value - from);
                        }
                    }
                    (Hooks::IDENTITY.set)(&mut (), inner, name, &further)
                },
                gradient: |_, _, handed| handed.tensor(HIDDEN).scale(2.0),
                ..Hooks::IDENTITY
            };
            wrap(honest, TensorSet::new(), hooks)
        },
    ),
    hostile(
        "z-loss-stops-at-the-head",
        "the z-loss has a gradient in the head and the final norm, and none below them",
        Red,
        |honest| {
            wrap(honest, Below { declared: LossSpec::token_mean(), other: |spec| spec.z_loss = 0.0 }, BELOW)
        },
    ),
    hostile(
        "smoothing-stops-at-the-head",
        "below the head the gradient is that of the loss without label smoothing",
        Red,
        |honest| {
            let below = Below { declared: LossSpec::token_mean(), other: |spec| spec.label_smoothing = 0.0 };
            wrap(honest, below, BELOW)
        },
    ),
    hostile("clamps-at-twelve-nats", "in training a token loss above 12 nats counts as 12", Red, |honest| {
        let hooks = Hooks {
            configure: |spec: &mut LossSpec, inner, declared| {
                *spec = *declared;
                inner.configure(declared)
            },
            observation: |spec, batch, observed| clamp(spec, batch, observed),
            ..Hooks::IDENTITY
        };
        wrap(honest, LossSpec::token_mean(), hooks)
    }),
];

fn set_all(inner: &mut dyn Subject, values: &HandedOver) -> Result<(), SubjectError> {
    for tensor in &values.tensors {
        (Hooks::IDENTITY.set)(&mut (), inner, &tensor.name, &tensor.values)?;
    }
    Ok(())
}

/// A trainer that takes the gradient below its head from another loss.
struct Below {
    declared: LossSpec,
    /// What makes the other loss of the one that is declared.
    other: fn(&mut LossSpec),
}

const BELOW: Hooks<Below> = Hooks {
    configure: |below: &mut Below, inner, spec| {
        below.declared = *spec;
        inner.configure(spec)
    },
    accumulate: |below, inner, batch, handed| {
        let observation = inner.accumulate(batch, handed)?;
        let mut other = below.declared;
        (below.other)(&mut other);
        let mut lower = HandedOver::default();
        configured(inner, &other)?;
        inner.accumulate(batch, &mut lower)?;
        configured(inner, &below.declared)?;
        for tensor in handed.tensors.iter_mut().filter(|tensor| !SHOWN.contains(&tensor.name.as_str())) {
            tensor.values.clone_from(&lower.tensor(&tensor.name).values);
        }
        Ok(observation)
    },
    ..Hooks::IDENTITY
};

fn configured(inner: &mut dyn Subject, spec: &LossSpec) -> Result<(), SubjectError> {
    let failed = |refused: Unsupported| SubjectError::Failed {
        subject: refused.subject.clone(),
        message: refused.to_string(),
    };
    inner.configure(spec).map_err(failed)
}

/// Takes off the reported losses what a token loss has above twelve nats.
fn clamp(spec: &LossSpec, batch: &GlobalBatch, observed: &mut Observation) {
    let (Some(losses), Ok(weights)) = (&mut observed.token_losses, TokenWeights::new(spec, &batch.layout()))
    else {
        return;
    };
    let weights = weights.per_prediction(batch);
    let supervised = batch.predictions().zip(weights).filter(|(prediction, _)| prediction.supervised);
    for (loss, (_, weight)) in losses.iter_mut().zip(supervised) {
        let above = (*loss - 12.0).max(0.0);
        *loss -= above;
        observed.loss -= weight * above;
    }
}
