//! Backward operators and graph: what becomes of a gradient on its way back.

use super::{Bug, Family};

pub(super) const BUGS: &[Bug] = &[
    Bug {
        id: "grad-assigned-not-accumulated",
        family: Family::Backward,
        what: "the layer norm's kernel stores its gradient where others add, and keeps that of the last \
               micro-batch",
        source: Some(
            "karpathy/llm.c#408 @dd8c9f5 (gain of the layer norm; diff read), huggingface/candle#3507 \
             (open; upsampling overwrites), paiml/entrenar#257 (an accumulator that is not initialised), \
             karpathy/llm.c#548 @54ec686 (gradients left from before the first step)",
        ),
        clauses: &["2.1", "2.2", "4.1", "4.2"],
        remedy: "add to gradients in every kernel, into buffers that start at zero",
        omitted: None,
    },
    Bug {
        id: "tied-embedding-detached",
        family: Family::Backward,
        what: "the tied weight has its gradient from its use as the head alone",
        source: Some("torch/DEPRECEATED-torch7-distro#156 (half the updates are lost)"),
        clauses: &["6.3", "6.10"],
        remedy: "add the embedding's part to the gradient of the tied weight",
        omitted: None,
    },
    Bug {
        id: "tied-head-detached",
        family: Family::Backward,
        what: "the head is a copy of the embedding with a gradient of its own, which nobody adds",
        source: Some("paiml/entrenar#314 (Rust; closed)"),
        clauses: &["1.5", "6.3", "6.10"],
        remedy: "add the head's part to the gradient of the tied weight: one storage, one gradient",
        omitted: None,
    },
    Bug {
        id: "padding-index-without-gradient",
        family: Family::Backward,
        what: "the embedding has token 0 as its padding index, and the real token 0 gets no gradient",
        source: None,
        clauses: &["6.6", "6.10"],
        remedy: "set no padding index, or one that is no real token",
        omitted: None,
    },
    Bug {
        id: "position-rows-misaligned",
        family: Family::Backward,
        what: "the gradient of the position embedding lands one row too far",
        source: None,
        clauses: &["6.5", "6.10"],
        remedy: "scatter by the position ids that were looked up",
        omitted: None,
    },
    Bug {
        id: "param-init-not-leaf",
        family: Family::Backward,
        what: "initialisation leaves the position embedding as the result of an operation, and nobody \
               trains it",
        source: Some("tracel-ai/burn#5235 @5694fef2b (Rust, an example; diff read)"),
        clauses: &["6.9", "6.10"],
        remedy: "make the parameter a leaf again after editing it: detach and require its gradient",
        omitted: None,
    },
    Bug {
        id: "concat-gradient-misaligned",
        family: Family::Backward,
        what: "the backward of a concatenation forgets to advance: the keys' part gets the queries' gradient",
        source: Some("tracel-ai/burn#4069 @2227d8d21 (Rust; only the commit's text was read)"),
        clauses: &["6.10"],
        remedy: "advance the offset for every part, tracked or not",
        omitted: None,
    },
    Bug {
        id: "scatter-backward-wrong-axis",
        family: Family::Backward,
        what: "the backward of a square projection scatters along the other axis: its gradient is transposed",
        source: Some(
            "tracel-ai/burn#3555 @89cebcf42 (Rust; diff read); alike #2777 @e7aed0d10 (repeat_dim summed \
             the whole axis; diff read)",
        ),
        clauses: &["6.10"],
        remedy: "keep the axis of the forward for the backward",
        omitted: None,
    },
    Bug {
        id: "backward-factor",
        family: Family::Backward,
        what: "a constant of a derivative is wrong: the gradient of one tensor is a multiple of what it \
               should be",
        source: None,
        clauses: &["6.10"],
        remedy: "check the derivative of the operation that this tensor enters",
        omitted: None,
    },
    Bug {
        id: "last-element-lost",
        family: Family::Backward,
        what: "a loop over a tensor ends one element early, and its last gradient stays zero",
        source: None,
        clauses: &["6.10"],
        remedy: "run the loop to the tensor's end",
        omitted: None,
    },
    Bug {
        id: "recompute-draws-new-dropout",
        family: Family::Backward,
        what: "activations are recomputed under another dropout mask, and the gradient is another every time",
        source: Some(
            "allenai/OLMo-core#828 (merged; a loss of 2.495 with recomputation and 2.195 without), \
             pytorch/pytorch#190758 (open), openai/guided-diffusion#167 (open)",
        ),
        clauses: &["6.8"],
        remedy: "restore the generator's state for the recomputation, or keep the mask",
        omitted: None,
    },
    Bug {
        id: "softmax-backward-diagonal-only",
        family: Family::Backward,
        what: "the backward of attention's softmax is y·(1 − y)·g, as if its elements did not depend on \
               each other",
        source: None,
        clauses: &["6.10"],
        remedy: "dx = y·(g − Σ g·y), as in huggingface/candle#3724",
        omitted: None,
    },
    Bug {
        id: "layernorm-backward-mean-terms-dropped",
        family: Family::Backward,
        what: "the backward of a layer norm takes mean and variance for constants",
        source: None,
        clauses: &["6.10"],
        remedy: "dx = (g − mean(g) − x̂·mean(g·x̂))/σ, with g multiplied by the gain first",
        omitted: None,
    },
    Bug {
        id: "sqrt-grad-wrong-operand",
        family: Family::Backward,
        what: "the derivative of √x is 1/(2x) instead of 1/(2√x), in the standard deviation of a layer norm",
        source: Some(
            "huggingface/candle#211 @c60831aad (Rust; square root and division; diff read); alike #534 \
             @d70cffdab (minimum and maximum) and #2083 @1690ab45d (0/0 in SiLU)",
        ),
        clauses: &["6.10"],
        remedy: "divide by twice the root that was computed: d√x = g/(2·√x)",
        omitted: None,
    },
    Bug {
        id: "gelu-backward-second-term",
        family: Family::Backward,
        what: "the second term of the GELU's derivative is √2 too large",
        source: Some("dfdx 0.13.0: `accurate_gelu`"),
        clauses: &["6.10"],
        remedy: "differentiate x·Φ(x) as Φ(x) + x·φ(x)",
        omitted: None,
    },
    Bug {
        id: "fused-op-without-backward",
        family: Family::Backward,
        what: "a fused layer norm registers no backward: nothing before it gets a gradient, or its own gain gets none",
        source: Some(
            "huggingface/candle#2168, #3011, #3568, #3569 (Rust; all open), fixes proposed in #3526, #3612, \
             #3613, #3724 (open)",
        ),
        clauses: &["6.3", "6.9", "6.10"],
        remedy: "use the operation that has a backward under training, and treat a missing gradient as an \
                 error",
        omitted: None,
    },
    Bug {
        id: "index-backward-overwrites",
        family: Family::Backward,
        what: "the embedding's backward stores where it should add: a repeated token keeps one of its \
               gradients",
        source: Some("pytorch/pytorch#1631 (closed, high priority), ooples/AiDotNet.Tensors#894 (merged)"),
        clauses: &["6.4", "6.10"],
        remedy: "scatter with addition: dW[id] += dOut for every occurrence",
        omitted: None,
    },
    Bug {
        id: "gqa-kv-grad-not-summed",
        family: Family::Backward,
        what: "query heads share keys and values, and the backward pass does not add the gradients of a \
               group of them",
        source: Some(
            "marin-community/levanter#449 (merged; there it ended in an error), \
             fla-org/flash-linear-attention#384 (review by a bot: it is silent)",
        ),
        clauses: &[],
        remedy: "add the gradients of all query heads that use a key head",
        omitted: Some(
            "GPT-2 has as many key heads as query heads, so there is no group whose gradients could be left \
             unsummed",
        ),
    },
    Bug {
        id: "dropout-not-rescaled",
        family: Family::Backward,
        what: "dropout in training does not divide by 1 − p, so activations are smaller than in evaluation",
        source: None,
        clauses: &[],
        remedy: "divide what is kept by 1 − p",
        omitted: Some(
            "it needs training and evaluation as modes of a model with dropout, which no clause speaks of \
             yet",
        ),
    },
];
