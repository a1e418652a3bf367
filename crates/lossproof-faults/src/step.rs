//! The step: loss scale, clipping, schedule, update.

use crate::{
    Family, Fault,
    honest::{Honest, Pass, weights},
    names::EMBEDDING,
    rules::{self, Moments, Update},
    tensors::{Tensors, norm},
    trainer::{self, Clipped, Trainer, Updates, Window, measure, unscale},
};
use lossproof_spec::{Adam, Decayed, Optimizer, Rule};
use lossproof_subject::{ParameterInfo, SubjectError};

const HONEST: Trainer = Trainer::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        id: "clip-per-microbatch",
        family: Family::Optimizer,
        what: "each micro-batch's gradient is clipped by itself before it is accumulated",
        source: Some("huggingface/transformers#1563, #986; huggingface/diffusers#721"),
        clauses: &["7.1"],
        trainer: Trainer { window: clipped_one_by_one, ..HONEST },
    },
    Fault {
        id: "clip-compares-squared-norm",
        family: Family::Optimizer,
        what: "the threshold is compared with the square of the norm, and then divided by the norm",
        source: Some("karpathy/llm.c@bc58cd1, paiml/entrenar#312"),
        clauses: &["7.1"],
        trainer: Trainer { clip: squared_norm_compared, ..HONEST },
    },
    Fault {
        id: "clip-per-tensor",
        family: Family::Optimizer,
        what: "each tensor is clipped by its own norm instead of all by the global one",
        source: None,
        clauses: &["7.1"],
        trainer: Trainer { clip: each_tensor_clipped, ..HONEST },
    },
    Fault {
        id: "clip-before-unscale",
        family: Family::Optimizer,
        what: "the gradient is measured and clipped with the loss scale still on it",
        source: Some("Lightning-AI/pytorch-lightning#9606, NVIDIA/apex#1512, pytorch/examples#1196"),
        clauses: &["7.1", "7.7"],
        trainer: Trainer { clip: clipped_before_unscaled, ..HONEST },
    },
    Fault {
        id: "grad-norm-after-clipping",
        family: Family::Logging,
        what: "the gradient norm that is logged is measured after clipping, and never above the threshold",
        source: None,
        clauses: &["7.1"],
        trainer: Trainer {
            clip: |optimizer, parameters, gradient| {
                let clipped = trainer::clip(optimizer, parameters, gradient);
                Clipped { factor: clipped.factor, ..measure(parameters, gradient) }
            },
            ..HONEST
        },
    },
    Fault {
        id: "loss-scale-not-undone",
        family: Family::Optimizer,
        what: "the loss is scaled for the backward pass and the gradient is not scaled back",
        source: None,
        clauses: &["7.7"],
        trainer: Trainer {
            clip: |optimizer, parameters, gradient| {
                trainer::clip(&Optimizer { loss_scale: 1.0, ..*optimizer }, parameters, gradient)
            },
            ..HONEST
        },
    },
    Fault {
        id: "overflow-not-skipped",
        family: Family::Optimizer,
        what: "a step is taken with a gradient that overflowed",
        source: None,
        clauses: &["7.7"],
        trainer: Trainer { skips: |_, _, _| false, ..HONEST },
    },
    Fault {
        id: "overflow-advances-schedule",
        family: Family::Optimizer,
        what: "the schedule advances although the step was skipped",
        source: None,
        clauses: &["7.7"],
        trainer: Trainer {
            learning_rate: |optimizer, counted| optimizer.learning_rate_at(counted.steps + counted.skipped),
            ..HONEST
        },
    },
    Fault {
        id: "lr-schedule-per-microbatch",
        family: Family::Optimizer,
        what: "the schedule advances with every micro-batch, and the warm-up ends early",
        source: Some("tracel-ai/burn#5695, huggingface/accelerate#963, starVLA/starVLA#210"),
        clauses: &["7.6"],
        trainer: Trainer {
            learning_rate: |optimizer, counted| optimizer.learning_rate_at(counted.micro_batches),
            ..HONEST
        },
    },
    Fault {
        id: "momentum-dampened-first",
        family: Family::Optimizer,
        what: "the velocity starts from zero as a running mean does, so the first gradient counts for 1 − μ",
        source: None,
        clauses: &["7.2"],
        trainer: Trainer { update: dampened_first_step, ..HONEST },
    },
    Fault {
        id: "tied-weight-two-steps",
        family: Family::Optimizer,
        what: "embedding and head are two parameters to the optimizer, each with its own part of the gradient and its own state",
        source: Some("paiml/entrenar#314, torch/DEPRECEATED-torch7-distro#156"),
        clauses: &["7.2", "7.3", "7.4"],
        trainer: Trainer { updates: head_then_embedding, ..HONEST },
    },
    Fault {
        id: "weight-decay-grows",
        family: Family::Optimizer,
        what: "the sign of the weight decay is wrong, and weights grow",
        source: None,
        clauses: &["7.2", "7.3", "7.4"],
        trainer: Trainer {
            optimizer: |optimizer| {
                let rule = match optimizer.rule {
                    Rule::Sgd { momentum, weight_decay } => {
                        Rule::Sgd { momentum, weight_decay: -weight_decay }
                    }
                    Rule::Adam(adam) => Rule::Adam(Adam { weight_decay: -adam.weight_decay, ..adam }),
                    Rule::AdamW(adam) => Rule::AdamW(Adam { weight_decay: -adam.weight_decay, ..adam }),
                };
                Optimizer { rule, ..optimizer }
            },
            ..HONEST
        },
    },
    Fault {
        id: "adam-step-starts-at-zero",
        family: Family::Optimizer,
        what: "the first step is number 0, whose bias correction is a division by zero",
        source: Some("tracel-ai/burn#888, #621 reverted in #630"),
        clauses: &["7.3", "7.4"],
        trainer: Trainer {
            update: |update, values, gradient, moments| {
                rules::update(&adam_step(update, update.step - 1), values, gradient, moments);
            },
            ..HONEST
        },
    },
    Fault {
        id: "adam-without-bias-correction",
        family: Family::Optimizer,
        what: "the moments are used as if infinitely many steps had been taken",
        source: None,
        clauses: &["7.3", "7.4"],
        trainer: Trainer {
            update: |update, values, gradient, moments| {
                rules::update(&adam_step(update, u32::MAX), values, gradient, moments);
            },
            ..HONEST
        },
    },
    Fault {
        id: "adam-epsilon-inside-root",
        family: Family::Optimizer,
        what: "ε is added to the second moment under the root",
        source: None,
        clauses: &["7.3", "7.5"],
        trainer: Trainer {
            update: |update, values, gradient, moments| {
                rules::with_denominator(update, values, gradient, moments, |adam, second, correction| {
                    (second / correction + adam.epsilon).sqrt()
                });
            },
            ..HONEST
        },
    },
    Fault {
        id: "adamw-decay-coupled",
        family: Family::Optimizer,
        what: "what is called AdamW adds its decay to the gradient, as Adam does",
        source: None,
        clauses: &["7.4"],
        trainer: Trainer {
            optimizer: |optimizer| match optimizer.rule {
                Rule::AdamW(adam) => Optimizer { rule: Rule::Adam(adam), ..optimizer },
                _ => optimizer,
            },
            ..HONEST
        },
    },
    Fault {
        id: "weight-decay-on-norms",
        family: Family::Optimizer,
        what: "gains and biases end up in the group of parameters that decay",
        source: Some("ServiceNow/Fast-LLM#542, bigscience-workshop/Megatron-DeepSpeed#262, oumi-ai/oumi#341"),
        clauses: &["7.4"],
        trainer: Trainer {
            update: |update, values, gradient, moments| {
                let all = |adam| Adam { decayed: Decayed::All, ..adam };
                let rule = match update.rule {
                    Rule::Adam(adam) => Rule::Adam(all(adam)),
                    Rule::AdamW(adam) => Rule::AdamW(all(adam)),
                    sgd @ Rule::Sgd { .. } => sgd,
                };
                rules::update(&Update { rule, ..*update }, values, gradient, moments);
            },
            ..HONEST
        },
    },
];

fn clipped_one_by_one(
    honest: &mut Honest,
    window: &Window<'_>,
    mut pass: Pass,
) -> Result<Pass, SubjectError> {
    let Some(clip) = window.optimizer.clip else { return Ok(pass) };
    if let Some(contributions) = honest.contributions(window.spec, window.batch)? {
        pass.gradient = Tensors::default();
        for gradient in contributions.iter().flatten().map(|contribution| &contribution.gradient) {
            pass.gradient.add(clip.factor(gradient.norm()), gradient);
        }
    }
    Ok(pass)
}

/// The gradient without the embedding's part of the tied weight, and then that part.
fn head_then_embedding(
    honest: &mut Honest,
    window: &Window<'_>,
    mut gradient: Tensors,
    clipped: &Clipped,
) -> Updates {
    let Some(weights) = weights(window.spec, window.batch) else { return Ok(vec![gradient]) };
    let mut embedding = vec![0.0; gradient.of(EMBEDDING).len()];
    for (row, input) in honest.inputs(window.spec, window.batch, &weights)? {
        for (own, value) in embedding[row * input.len()..].iter_mut().zip(&input) {
            *own += clipped.factor * value;
        }
    }
    for (own, value) in gradient.of_mut(EMBEDDING).iter_mut().zip(&embedding) {
        *own -= value;
    }
    Ok(vec![gradient, Tensors::single(EMBEDDING, embedding)])
}

fn squared_norm_compared(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut Tensors,
) -> Clipped {
    unscale(optimizer, gradient);
    let mut clipped = measure(parameters, gradient);
    if let Some(clip) = optimizer.clip.filter(|clip| clipped.grad_norm.powi(2) > clip.max_norm) {
        clipped.factor = clip.max_norm / (clipped.grad_norm + clip.epsilon);
        gradient.scale(clipped.factor);
    }
    clipped
}

fn each_tensor_clipped(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut Tensors,
) -> Clipped {
    unscale(optimizer, gradient);
    let mut clipped = measure(parameters, gradient);
    if let Some(clip) = optimizer.clip {
        clipped.factor = clip.factor(clipped.grad_norm);
        for (_, values) in gradient.iter_mut() {
            let factor = clip.factor(norm(values.iter().copied()));
            for value in values {
                *value *= factor;
            }
        }
    }
    clipped
}

fn clipped_before_unscaled(
    optimizer: &Optimizer,
    parameters: &[ParameterInfo],
    gradient: &mut Tensors,
) -> Clipped {
    let clipped = trainer::clip(&Optimizer { loss_scale: 1.0, ..*optimizer }, parameters, gradient);
    unscale(optimizer, gradient);
    clipped
}

fn dampened_first_step(update: &Update<'_>, values: &mut [f64], gradient: &[f64], moments: &mut Moments) {
    let dampening = match update.rule {
        Rule::Sgd { momentum, .. } if update.step == 1 => 1.0 - momentum,
        _ => 1.0,
    };
    let gradient: Vec<f64> = gradient.iter().map(|value| dampening * value).collect();
    rules::update(update, values, &gradient, moments);
}

/// The update as Adam's step number `step`; SGD's is as it was.
fn adam_step<'a>(update: &Update<'a>, step: u32) -> Update<'a> {
    let step = if matches!(update.rule, Rule::Sgd { .. }) { update.step } else { step };
    Update { step, ..*update }
}
