//! The token loss: what is computed of one token's logits.

use super::{Hypothesis, hypothesis};
use crate::model::{Kernel, Scored, honest_kernel, softmax, under};
use lossproof_spec::LossSpec;

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis!(
        "smoothing-over-other-classes",
        "label smoothing shares ε among the other classes where all classes were declared",
        None,
        "declare which it is: ε/V for every class, or ε/(V − 1) for the others",
        { gradient: |call| {
            let classes = call.limits.vocabulary as f64;
            // The label keeps 1 − ε: as ε·V/(V − 1) shared among all classes does.
            let label_smoothing = call.spec.label_smoothing * classes / (classes - 1.0);
            under(&LossSpec { label_smoothing, ..*call.spec }, call)
        } }
    ),
    hypothesis!(
        "z-loss-ignored",
        "the z-loss is declared and not computed",
        None,
        "add ζ·(log Σ exp z)² to each token loss",
        { gradient: |call| under(&LossSpec { z_loss: 0.0, ..*call.spec }, call) }
    ),
    hypothesis!(
        "z-loss-undeclared",
        "a z-loss of 1e-4 stays on that nobody declared",
        None,
        "declare the z-loss, or turn it off",
        { gradient: |call| under(&LossSpec { z_loss: call.spec.z_loss + 1e-4, ..*call.spec }, call) }
    ),
    hypothesis!(
        "temperature-in-training",
        "the loss sees half the logits: a sampling temperature of 2 reaches training",
        None,
        "apply the temperature when sampling only",
        { kernel: Some(Kernel { of: |_| true, computes: |scored| {
            let half: Vec<f64> = scored.logits.iter().map(|logit| 0.5 * logit).collect();
            let (loss, mut gradient) = honest_kernel(&Scored { logits: &half, ..*scored })?;
            for value in &mut gradient {
                *value *= 0.5;
            }
            Some((loss, gradient))
        } }) }
    ),
    hypothesis!(
        "softmax-twice",
        "the head outputs probabilities and the loss takes them for logits",
        Some("tflearn/tflearn#562, ariecattan/SciCo#2, ooples/AiDotNet#1187"),
        "hand raw logits to the loss",
        { kernel: Some(Kernel { of: |_| true, computes: |scored| {
            let probabilities = softmax(scored.logits);
            let (loss, outer) = honest_kernel(&Scored { logits: &probabilities, ..*scored })?;
            let inner: f64 = outer.iter().zip(&probabilities).map(|(g, p)| g * p).sum();
            Some((loss, outer.iter().zip(&probabilities).map(|(g, p)| p * (g - inner)).collect()))
        } }) }
    ),
    hypothesis!(
        "ce-backward-clobbers-logits",
        "the first backward overwrites the saved logits with its gradient, and the second loss on them uses that",
        Some("unslothai/unsloth#5002, modelscope/ms-swift#10129, linkedin/Liger-Kernel#1251, NVIDIA/Megatron-LM#1594"),
        "treat saved tensors as read-only, or consume them so that no second loss can have them",
        { kernel: Some(Kernel { of: |token_loss| token_loss.label_smoothing > 0.0, computes: |scored| {
            let epsilon = scored.token_loss.label_smoothing;
            let (loss, honest) = honest_kernel(&Scored { weight: 1.0, ..*scored })?;
            let share = 1.0 / scored.logits.len() as f64;
            let uniform = |logits: &[f64]| softmax(logits).into_iter().map(move |p| epsilon * (p - share));
            // Without the uniform part: what that part then finds where the logits were.
            let first: Vec<f64> = honest.iter().zip(uniform(scored.logits)).map(|(g, u)| g - u).collect();
            let both = first.iter().zip(uniform(&first)).map(|(g, u)| scored.weight * (g + u)).collect();
            Some((scored.weight * loss, both))
        } }) }
    ),
    hypothesis!(
        "ce-offset-cancellation",
        "the loss is logsumexp(z) − z[y] without the largest logit subtracted first, and large logits round it away",
        Some("ml-explore/mlx#4188, pytorch/pytorch#195829"),
        "subtract the largest logit from all of them before both terms",
        { cancels: true }
    ),
];
