//! Cross-entropy kernels and numerics: the token loss and its gradient.

use super::{Bug, Family};

pub(super) const BUGS: &[Bug] = &[
    Bug {
        id: "smoothing-over-other-classes",
        family: Family::CrossEntropy,
        what: "label smoothing shares ε among the other classes where all classes were declared",
        source: None,
        clauses: &["1.6"],
        remedy: "declare which it is: ε/V for every class, or ε/(V − 1) for the others",
        omitted: None,
    },
    Bug {
        id: "z-loss-ignored",
        family: Family::CrossEntropy,
        what: "the z-loss is declared and not computed",
        source: None,
        clauses: &["1.7"],
        remedy: "add ζ·(log Σ exp z)² to each token loss",
        omitted: None,
    },
    Bug {
        id: "z-loss-undeclared",
        family: Family::CrossEntropy,
        what: "a z-loss stays on that nobody declared, and the logits' common offset is trained on",
        source: None,
        clauses: &["1.2", "1.3", "1.4", "1.5"],
        remedy: "declare the z-loss, or turn it off",
        omitted: None,
    },
    Bug {
        id: "temperature-in-training",
        family: Family::CrossEntropy,
        what: "the sampling temperature reaches the training loss, which sees half the logits",
        source: None,
        clauses: &["1.2", "1.5"],
        remedy: "apply the temperature when sampling only",
        omitted: None,
    },
    Bug {
        id: "ce-upstream-grad-mean",
        family: Family::CrossEntropy,
        what: "the loss kernel takes the gradient that comes from above for one number, the mean of its \
               elements",
        source: Some(
            "linkedin/Liger-Kernel#1298 (merged), #968, #680 @05b43a14; ROCm/TransformerEngine#336 (open)",
        ),
        clauses: &["2.11"],
        remedy: "multiply each row by its own element of the gradient from above",
        omitted: None,
    },
    Bug {
        id: "ce-upstream-grad-scalar",
        family: Family::CrossEntropy,
        what: "the loss kernel scales every row by the first element of the gradient that comes from above",
        source: Some(
            "linkedin/Liger-Kernel#1298 (merged), #968, #680 @05b43a14, ROCm/TransformerEngine#336 (open), \
             microsoft/DirectML#740 (open: gradients are all zero)",
        ),
        clauses: &["2.11"],
        remedy: "multiply each row by its own element of the gradient from above",
        omitted: None,
    },
    Bug {
        id: "softmax-twice",
        family: Family::CrossEntropy,
        what: "the head ends in a softmax, and the loss takes its probabilities for logits",
        source: Some(
            "tflearn/tflearn#562 (merged), ariecattan/SciCo#2 (in validation alone; fixed), \
             ooples/AiDotNet#1187 and #1191 (a language model that stops learning; it also reports 1/V of \
             the loss)",
        ),
        clauses: &["1.2", "1.5"],
        remedy: "hand raw logits to the loss",
        omitted: None,
    },
    Bug {
        id: "ce-backward-clobbers-logits",
        family: Family::CrossEntropy,
        what: "the backward of one loss writes its gradient into the logits it kept, and a second loss on \
               them takes that for logits",
        source: Some(
            "unslothai/unsloth#5002 (closed), modelscope/ms-swift#10129 and #10130 (merged), \
             linkedin/Liger-Kernel#1251 (open, for #272), NVIDIA/Megatron-LM#1594 (open)",
        ),
        clauses: &["1.5", "1.6"],
        remedy: "treat saved tensors as read-only, or consume them so that no second loss can have them",
        omitted: None,
    },
    Bug {
        id: "ce-offset-cancellation",
        family: Family::CrossEntropy,
        what: "the loss is log Σ exp z − z_y without the largest logit subtracted first, and large logits \
               round the difference away",
        source: Some(
            "ml-explore/mlx#4188 (merged; a table over offsets from 1e4 to 1e8), pytorch/pytorch#195829 \
             (review: the fused path is affected)",
        ),
        clauses: &["1.3", "1.4"],
        remedy: "subtract the largest logit from all of them before both terms",
        omitted: None,
    },
    Bug {
        id: "logits-flag-ignored",
        family: Family::CrossEntropy,
        what: "inputs declared to be probabilities are taken for logits: their logarithm is that of a \
               softmax of them",
        source: Some("tracel-ai/burn#4829 @a8ab5b3b3 (Rust; diff read, whose test has 1.3542 for 0.8817)"),
        clauses: &[],
        remedy: "take the logarithm of what is declared to be a probability, and a log-softmax of logits \
                 alone",
        omitted: Some(
            "a softmax of probabilities that were to be taken as they are is what softmax-twice computes",
        ),
    },
];
