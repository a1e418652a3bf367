//! Label shift and alignment: which label a prediction is scored against.

use super::{Bug, Family};

pub(super) const BUGS: &[Bug] = &[
    Bug {
        id: "shift-missing",
        family: Family::Alignment,
        what: "position t is scored against the token at t, so the model learns to copy",
        source: Some("huggingface/transformers#17987 (merged fix), #27161 (closed)"),
        clauses: &["1.1"],
        remedy: "score the logits of position t against the label at t + 1",
        omitted: None,
    },
    Bug {
        id: "shift-twice",
        family: Family::Alignment,
        what: "the caller and the loss both shift, so position t is scored against the token at t + 2",
        source: Some(
            "huggingface/transformers#37830 (JetMoe; merged), #46898 (Florence2; merged), #47394 and #47395 \
             (Git; fixed), huggingface/accelerate#3637 @be826a6b (the caller shifts too; diff read), \
             allenai/open-instruct#1549 (merged)",
        ),
        clauses: &["1.1"],
        remedy: "shift once: pass unshifted labels to a model that shifts, or shifted ones to a loss that \
                 does not",
        omitted: None,
    },
    Bug {
        id: "mask-sliced-wrong-side",
        family: Family::Alignment,
        what: "the loss mask is sliced [:-1] where the labels are sliced [1:], one position off",
        source: Some("karpathy/llm.c@8d55c4a (diff read; a benchmark's result moved from 0.2820 to 0.2859)"),
        clauses: &["1.1", "3.5"],
        remedy: "slice the mask as the labels: mask[1:]",
        omitted: None,
    },
    Bug {
        id: "prompt-mask-one-too-many",
        family: Family::Alignment,
        what: "the prompt's mask covers as many shifted labels as the prompt has tokens, and hides the \
               answer's first",
        source: Some("pytorch/torchtitan#2755 @bfe264ed2 (diff read)"),
        clauses: &["3.5"],
        remedy: "mask one shifted label less than the prompt has tokens",
        omitted: None,
    },
    Bug {
        id: "shift-missing-on-side-path",
        family: Family::Alignment,
        what: "with label smoothing the loss is computed outside of the model, on labels that nobody has \
               shifted",
        source: Some(
            "huggingface/transformers#17987 (merged fix), #27161 (closed; the same again for models wrapped \
             by PEFT)",
        ),
        clauses: &["1.1", "1.6"],
        remedy: "shift the labels on the path with label smoothing too",
        omitted: None,
    },
];
