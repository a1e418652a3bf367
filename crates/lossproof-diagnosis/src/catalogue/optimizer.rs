//! Clipping, optimizer and schedule: what a step makes of a gradient.

use super::{Bug, Family};

pub(super) const BUGS: &[Bug] = &[
    Bug {
        id: "zero-grad-missing",
        family: Family::Optimizer,
        what: "gradients are never cleared, and each step uses the sum of all before it",
        source: Some(
            "meta-pytorch/torchforge#71 (merged), tenstorrent/tt-blacksmith#711 (merged), the case \
             stackoverflow-60335387 of OrderLab/TrainCheck (its README read)",
        ),
        clauses: &["7.2", "7.3", "7.6"],
        remedy: "clear gradients once per step",
        omitted: None,
    },
    Bug {
        id: "clip-per-microbatch",
        family: Family::Optimizer,
        what: "each micro-batch's gradient is clipped by itself before it is accumulated",
        source: Some(
            "huggingface/transformers#1563 (fixed by #1580), #986 (an example by hand), \
             huggingface/diffusers#721 (merged)",
        ),
        clauses: &["7.1"],
        remedy: "clip once, when the window is complete",
        omitted: None,
    },
    Bug {
        id: "clip-compares-squared-norm",
        family: Family::Optimizer,
        what: "the threshold is compared with the square of the norm, and then divided by the norm",
        source: Some(
            "karpathy/llm.c@bc58cd1 (diff read), paiml/entrenar#312 (Rust; its table lists the fix as #311)",
        ),
        clauses: &["7.1"],
        remedy: "compare the norm, not its square",
        omitted: None,
    },
    Bug {
        id: "clip-per-tensor",
        family: Family::Optimizer,
        what: "each tensor is clipped by its own norm instead of all by the global one",
        source: None,
        clauses: &["7.1"],
        remedy: "take the norm over all tensors",
        omitted: None,
    },
    Bug {
        id: "clip-before-unscale",
        family: Family::Optimizer,
        what: "the gradient is measured and clipped with the loss scale still on it",
        source: Some(
            "Lightning-AI/pytorch-lightning#9606 (merged), NVIDIA/apex#1512 (merged), pytorch/examples#1196 \
             (open), milesial/Pytorch-UNet#468 and #470 (merged)",
        ),
        clauses: &["7.1", "7.7"],
        remedy: "unscale, then measure and clip",
        omitted: None,
    },
    Bug {
        id: "loss-scale-not-undone",
        family: Family::Optimizer,
        what: "the loss is scaled for the backward pass and the gradient is not scaled back",
        source: None,
        clauses: &["7.7"],
        remedy: "divide the gradient by the loss scale before anything looks at it",
        omitted: None,
    },
    Bug {
        id: "overflow-not-skipped",
        family: Family::Optimizer,
        what: "a step is taken with a gradient that overflowed",
        source: None,
        clauses: &["7.7"],
        remedy: "skip the step when a gradient is not finite",
        omitted: None,
    },
    Bug {
        id: "overflow-advances-schedule",
        family: Family::Optimizer,
        what: "the schedule advances although the step was skipped",
        source: None,
        clauses: &["7.7"],
        remedy: "advance the schedule with the steps that were taken",
        omitted: None,
    },
    Bug {
        id: "lr-schedule-per-microbatch",
        family: Family::Optimizer,
        what: "the schedule advances with every micro-batch, and the warm-up ends early",
        source: Some(
            "tracel-ai/burn#5695 (Rust; closed; code read), Lightning-AI/pytorch-lightning#1476, \
             huggingface/accelerate#963 and its fix #999 (merged), starVLA/starVLA#210 (merged), \
             karpathy/llm.c@c6680a2 (the number of steps)",
        ),
        clauses: &["7.6"],
        remedy: "advance the schedule once per optimizer step",
        omitted: None,
    },
    Bug {
        id: "momentum-dampened-first",
        family: Family::Optimizer,
        what: "the velocity starts from zero as a running mean does, so the first gradient counts for 1 − μ",
        source: None,
        clauses: &["7.2"],
        remedy: "start the velocity with the first gradient",
        omitted: None,
    },
    Bug {
        id: "tied-weight-two-steps",
        family: Family::Optimizer,
        what: "embedding and head are two parameters to the optimizer, each with its own part of the \
               gradient and its own state",
        source: Some(
            "paiml/entrenar#314 (Rust; closed), torch/DEPRECEATED-torch7-distro#156 (half the updates are \
             lost); the mirror image, counted twice in the norm: NVIDIA/Megatron-LM#7227 (open)",
        ),
        clauses: &["7.2", "7.3", "7.4"],
        remedy: "keep both in one storage: add both gradients, then update it once",
        omitted: None,
    },
    Bug {
        id: "weight-decay-grows",
        family: Family::Optimizer,
        what: "the sign of the weight decay is wrong, and weights grow",
        source: None,
        clauses: &["7.2", "7.3", "7.4"],
        remedy: "subtract the decay from the parameter",
        omitted: None,
    },
    Bug {
        id: "adam-step-starts-at-zero",
        family: Family::Optimizer,
        what: "the first step is number 0, whose bias correction is a division by zero",
        source: Some(
            "tracel-ai/burn#888 @0ab611b42 (AdamW), #621 @4c663b4cb reverted in #630 @877036889 (Adam) \
             (Rust; diffs read)",
        ),
        clauses: &["7.3", "7.4"],
        remedy: "count the first update as step 1",
        omitted: None,
    },
    Bug {
        id: "adam-without-bias-correction",
        family: Family::Optimizer,
        what: "the moments are used as if infinitely many steps had been taken",
        source: None,
        clauses: &["7.3", "7.4"],
        remedy: "divide the moments by 1 − β^k",
        omitted: None,
    },
    Bug {
        id: "adam-epsilon-inside-root",
        family: Family::Optimizer,
        what: "ε is added to the second moment under the root",
        source: None,
        clauses: &["7.3", "7.5"],
        remedy: "add ε to the root of the second moment",
        omitted: None,
    },
    Bug {
        id: "adamw-decay-coupled",
        family: Family::Optimizer,
        what: "what is called AdamW adds its decay to the gradient, as Adam does",
        source: None,
        clauses: &["7.4"],
        remedy: "subtract lr·λ·θ from the parameter, apart from the gradient",
        omitted: None,
    },
    Bug {
        id: "weight-decay-on-norms",
        family: Family::Optimizer,
        what: "gains and biases end up in the group of parameters that decay",
        source: Some(
            "ServiceNow/Fast-LLM#542 and its fix #545 (merged), bigscience-workshop/Megatron-DeepSpeed#262 \
             (merged; an alias of the norm), oumi-ai/oumi#341 (merged)",
        ),
        clauses: &["7.4"],
        remedy: "put tensors of one dimension in the group without decay, and test the groups by name",
        omitted: None,
    },
    Bug {
        id: "resume-loses-counters",
        family: Family::Optimizer,
        what: "a resumed run starts its schedule, Adam's step number, its place in the data or its random \
               state anew",
        source: Some(
            "paiml/entrenar#257 (Rust; merged), EleutherAI/gpt-neox#308 (merged; data is replayed), \
             huggingface/transformers#8624 (merged), #46628 (closed; order of random states)",
        ),
        clauses: &[],
        remedy: "keep parameters, moments, step number, schedule, place in the data and random state in one \
                 checkpoint",
        omitted: Some("it needs checkpoints of a training loop, which no capability of a subject gives yet"),
    },
];
