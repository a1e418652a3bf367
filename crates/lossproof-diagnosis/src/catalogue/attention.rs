//! Attention, positions and packing: what a position sees.

use super::{Bug, Family};

pub(super) const BUGS: &[Bug] = &[
    Bug {
        id: "packing-cross-contamination",
        family: Family::Attention,
        what: "packed documents attend to each other: positions restart, but the mask is not block-diagonal",
        source: Some(
            "huggingface/transformers#46634 (closed), huggingface/nanoVLM#204 (open; with positions reset \
             alone the leak stays at 0.462), DeepOpt-com/WrinkleFree-Monorepo#53 (from 11.34 to 0 with the \
             mask); the part of positions: hiyouga/LlamaFactory#7318 (merged)",
        ),
        clauses: &["6.7"],
        remedy: "make the attention mask block-diagonal, one block for each document",
        omitted: None,
    },
    Bug {
        id: "position-ids-dropped",
        family: Family::Attention,
        what: "position ids do not reach the model, which counts 0, 1, 2, … over padding and documents",
        source: Some("hiyouga/LlamaFactory#7318 (merged)"),
        clauses: &["3.3", "6.5", "6.7"],
        remedy: "pass position ids on: they restart with each document and skip padding",
        omitted: None,
    },
    Bug {
        id: "causal-mask-off-by-one",
        family: Family::Attention,
        what: "a position sees the token after it, which is the one it has to predict",
        source: Some("keras-team/keras#23038, huggingface/transformers#48745, facebookresearch/xformers#103"),
        clauses: &["6.1", "6.2"],
        remedy: "forbid keys after the query: j > i",
        omitted: None,
    },
    Bug {
        id: "causal-mask-dropped-on-path",
        family: Family::Attention,
        what: "the causal mask is lost on a faster path that is taken where nothing is padded: later tokens \
               are seen",
        source: Some(
            "keras-team/keras#23038 (closed), huggingface/transformers#48745 (closed; four models), #31673 \
             (closed; the sliding window of Gemma 2), facebookresearch/xformers#103 (closed), \
             keras-team/keras#21284 (closed)",
        ),
        clauses: &["6.1", "6.2"],
        remedy: "keep the causal mask on every path, whatever other mask there is",
        omitted: None,
    },
    Bug {
        id: "causal-mask-inverted",
        family: Family::Attention,
        what: "the mask forbids what it should allow: a position sees what comes after it, and nothing of \
               what came before",
        source: Some(
            "huggingface/candle@97424289d, one commit after @25bcad290 replaced a constant mask (Rust, an \
             example; both diffs read), neuro-galaxy/torch_brain#74 (merged; the sign from mask to bias)",
        ),
        clauses: &["6.1", "6.2"],
        remedy: "forbid keys after the query, j > i; check whether true means keep or drop",
        omitted: None,
    },
    Bug {
        id: "causal-mask-diagonal-off-by-one",
        family: Family::Attention,
        what: "the mask forbids the diagonal too: no position sees itself, and the first one has nothing to \
               see",
        source: None,
        clauses: &["6.1", "6.2"],
        remedy: "allow the diagonal: keys j <= i",
        omitted: None,
    },
    Bug {
        id: "fully-masked-row-nan",
        family: Family::Attention,
        what: "a query whose keys are all masked, as padding is, divides zero by zero, and its NaN reaches \
               every gradient",
        source: Some(
            "tracel-ai/burn#4697 (Rust; merged), pytorch/pytorch#41508 (open since 2020; its fixes #189045 \
             and #196170 too), NVIDIA-NeMo/Automodel#2826 (merged)",
        ),
        clauses: &["3.2", "3.3", "4.1", "6.9", "6.10"],
        remedy: "define the result of a row without keys (zeros), forward and backward",
        omitted: None,
    },
];
