//! The token loss: what is computed of one token's logits.

use super::{HONEST, Hypothesis, hypothesis, weighs};
use crate::{
    call::under,
    trainer_model::{LossKernel, ScoredToken, TrainerModel, honest_kernel, softmax},
};
use lossproof_numerics::vector;
use lossproof_spec::LossSpec;

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    weighs("smoothing-over-other-classes", |call| {
        let classes = call.limits.vocabulary as f64;
        // The label keeps 1 − ε: as ε·V/(V − 1) shared among all classes does.
        let label_smoothing = call.spec.label_smoothing * classes / (classes - 1.0);
        under(&LossSpec { label_smoothing, ..*call.spec }, call)
    }),
    weighs("z-loss-ignored", |call| under(&LossSpec { z_loss: 0.0, ..*call.spec }, call)),
    weighs("z-loss-undeclared", |call| {
        under(&LossSpec { z_loss: call.spec.z_loss + 1e-4, ..*call.spec }, call)
    }),
    hypothesis(
        "temperature-in-training",
        TrainerModel {
            kernel: Some(LossKernel {
                of: |_| true,
                of_probabilities: false,
                computes: |scored| {
                    let half: Vec<f64> = scored.logits.iter().map(|logit| 0.5 * logit).collect();
                    let (loss, mut gradient) = honest_kernel(&ScoredToken { logits: &half, ..*scored })?;
                    vector::scale(&mut gradient, 0.5);
                    Some((loss, gradient))
                },
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "softmax-twice",
        TrainerModel {
            kernel: Some(LossKernel {
                of: |_| true,
                of_probabilities: true,
                computes: |scored| {
                    let probabilities = softmax(scored.logits);
                    let (loss, outer) = honest_kernel(&ScoredToken { logits: &probabilities, ..*scored })?;
                    let inner = vector::dot(&outer, &probabilities);
                    Some((loss, outer.iter().zip(&probabilities).map(|(g, p)| p * (g - inner)).collect()))
                },
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "ce-backward-clobbers-logits",
        TrainerModel {
            kernel: Some(LossKernel {
                of: |token_loss| token_loss.label_smoothing > 0.0,
                of_probabilities: false,
                computes: |scored| {
                    let epsilon = scored.token_loss.label_smoothing;
                    let (loss, honest) = honest_kernel(&ScoredToken { weight: 1.0, ..*scored })?;
                    let share = 1.0 / scored.logits.len() as f64;
                    let uniform =
                        |logits: &[f64]| softmax(logits).into_iter().map(move |p| epsilon * (p - share));
                    // Without the uniform part: what that part then finds where the logits were.
                    let first: Vec<f64> =
                        honest.iter().zip(uniform(scored.logits)).map(|(g, u)| g - u).collect();
                    let both =
                        first.iter().zip(uniform(&first)).map(|(g, u)| scored.weight * (g + u)).collect();
                    Some((scored.weight * loss, both))
                },
            }),
            ..HONEST
        },
    ),
    hypothesis("ce-offset-cancellation", TrainerModel { cancels: true, ..HONEST }),
];
