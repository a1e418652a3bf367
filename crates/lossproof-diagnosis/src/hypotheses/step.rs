//! The step: loss scale, clipping, schedule, update.

use super::{Hypothesis, hypothesis};
use crate::{model::honest_terms, steps::Mistake};
use lossproof_spec::GlobalBatch;

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis!(
        "clip-per-microbatch",
        "each micro-batch's gradient is clipped by itself before it is accumulated",
        Some("huggingface/transformers#1563, #986; huggingface/diffusers#721"),
        "clip once, when the window is complete",
        { step: Mistake::ClippedPerMicroBatch }
    ),
    hypothesis!(
        "clip-compares-squared-norm",
        "the threshold is compared with the square of the norm, and then divided by the norm",
        Some("karpathy/llm.c@bc58cd1, paiml/entrenar#312"),
        "compare the norm, not its square",
        { step: Mistake::SquaredNormCompared }
    ),
    hypothesis!(
        "clip-per-tensor",
        "each tensor is clipped by its own norm instead of all by the global one",
        None,
        "take the norm over all tensors",
        { step: Mistake::ClippedPerTensor }
    ),
    hypothesis!(
        "clip-before-unscale",
        "the gradient is measured and clipped with the loss scale still on it",
        Some("Lightning-AI/pytorch-lightning#9606, NVIDIA/apex#1512, pytorch/examples#1196"),
        "unscale, then measure and clip",
        { step: Mistake::ClippedBeforeUnscale }
    ),
    hypothesis!(
        "grad-norm-after-clipping",
        "the gradient norm that is logged is measured after clipping, and never above the threshold",
        None,
        "log the norm that clipping compares",
        { step: Mistake::NormAfterClipping }
    ),
    hypothesis!(
        "loss-scale-not-undone",
        "the loss is scaled for the backward pass and the gradient is not scaled back",
        None,
        "divide the gradient by the loss scale before anything looks at it",
        { step: Mistake::ScaleNotUndone }
    ),
    hypothesis!(
        "overflow-not-skipped",
        "a step is taken with a gradient that overflowed",
        None,
        "skip the step when a gradient is not finite",
        { step: Mistake::OverflowNotSkipped }
    ),
    hypothesis!(
        "overflow-advances-schedule",
        "the schedule advances although the step was skipped",
        None,
        "advance the schedule with the steps that were taken",
        { step: Mistake::OverflowAdvancesSchedule }
    ),
    hypothesis!(
        "lr-schedule-per-microbatch",
        "the schedule advances with every micro-batch, and the warm-up ends early",
        Some("tracel-ai/burn#5695, huggingface/accelerate#963, starVLA/starVLA#210"),
        "advance the schedule once per optimizer step",
        { step: Mistake::SchedulePerMicroBatch }
    ),
    hypothesis!(
        "momentum-dampened-first",
        "the velocity starts from zero as a running mean does, so the first gradient counts for 1 − μ",
        None,
        "start the velocity with the first gradient",
        { step: Mistake::MomentumDampened }
    ),
    hypothesis!(
        "weight-decay-grows",
        "the sign of the weight decay is wrong, and weights grow",
        None,
        "subtract the decay",
        { step: Mistake::DecayGrows }
    ),
    hypothesis!(
        "adam-step-starts-at-zero",
        "the first step is number 0, whose bias correction is a division by zero",
        Some("tracel-ai/burn#888, #621 reverted in #630"),
        "count the first update as step 1",
        { step: Mistake::AdamStartsAtZero }
    ),
    hypothesis!(
        "adam-without-bias-correction",
        "the moments are used as if infinitely many steps had been taken",
        None,
        "divide the moments by 1 − β^k",
        { step: Mistake::AdamUncorrected }
    ),
    hypothesis!(
        "adam-epsilon-inside-root",
        "ε is added to the second moment under the root",
        None,
        "add ε to the root",
        { step: Mistake::EpsilonInsideRoot }
    ),
    hypothesis!(
        "adamw-decay-coupled",
        "what is called AdamW adds its decay to the gradient, as Adam does",
        None,
        "subtract lr·λ·θ beside the update",
        { step: Mistake::DecayCoupled }
    ),
    hypothesis!(
        "weight-decay-on-norms",
        "gains and biases end up in the group of parameters that decay",
        Some("ServiceNow/Fast-LLM#542, bigscience-workshop/Megatron-DeepSpeed#262, oumi-ai/oumi#341"),
        "put tensors of one dimension in the group without decay, and test the groups by name",
        { step: Mistake::EverythingDecays }
    ),
    hypothesis!(
        "zero-grad-missing",
        "gradients are never cleared, and each step uses the sum of all before it",
        Some("meta-pytorch/torchforge#71, tenstorrent/tt-blacksmith#711"),
        "clear gradients once per step",
        { step: Mistake::NeverCleared }
    ),
    hypothesis!(
        "ga-partial-window-dropped",
        "a window that is shorter than usual goes through backward and never reaches the update",
        Some("tracel-ai/burn#5695, NVIDIA-NeMo/Automodel#2257"),
        "step with the last, shorter window too, divided by its own number",
        {
            // Whoever looks at the gradient sees none.
            gradient: |call| {
                let usual = call.before.iter().map(GlobalBatch::longest_window).max();
                let mut terms = honest_terms(call)?;
                if call.upstream.is_none() && Some(call.batch.longest_window()) < usual {
                    for term in &mut terms {
                        term.weights.fill(0.0);
                    }
                }
                Some(terms)
            },
            loss: Some(honest_terms),
            step: Mistake::ShortWindowDropped,
        }
    ),
    hypothesis!(
        "tied-weight-two-steps",
        "the tied weight is two copies with a gradient and an optimizer state each: it is updated twice",
        Some("paiml/entrenar#314, NVIDIA/Megatron-LM#7227"),
        "one storage: add both gradients, then one update",
        { step: Mistake::TiedWeightTwice }
    ),
];
