//! Masking, padding and composed losses: what is ignored, and what is added to the cross-entropy.

use super::{Bug, Family};

pub(super) const BUGS: &[Bug] = &[
    Bug {
        id: "eos-equals-pad-masked",
        family: Family::Masking,
        what: "labels are ignored wherever they are the padding's token, the real end of text included",
        source: Some("huggingface/trl#3200 @485852c94 (diff read), #6357 (merged), #1623, #3091"),
        clauses: &["3.7"],
        remedy: "mask by position or attention mask, not by token id",
        omitted: None,
    },
    Bug {
        id: "pad-targets-trained",
        family: Family::Masking,
        what: "labels are the input tokens without masking, so padding is seen and trained on",
        source: Some(
            "open-jarvis/OpenJarvis#521 (merged; nine of ten terms were padding), voidism/DiffCSE#25 \
             (padding enters sum and count)",
        ),
        clauses: &["3.2", "3.6"],
        remedy: "set the label to the ignore index wherever the attention mask is 0",
        omitted: None,
    },
    Bug {
        id: "ignore-index-not-honoured",
        family: Family::Masking,
        what: "the ignore index is not handed to the loss kernel, and ignored tokens are trained on",
        source: Some(
            "flagos-ai/FlagGems#73 (found by a maintainer in review, open), linkedin/Liger-Kernel#974 \
             @33f7f487 (diff read)",
        ),
        clauses: &["3.1", "3.4", "3.5"],
        remedy: "hand the ignore index to the kernel that computes the loss, numerator and denominator",
        omitted: None,
    },
    Bug {
        id: "ignore-mask-inverted",
        family: Family::Masking,
        what: "the condition of the mask is flipped: real labels are ignored and ignored ones trained on",
        source: Some("awslabs/sockeye#200 (confirmed by a maintainer), fixed in #203 (merged)"),
        clauses: &["3.1", "3.4"],
        remedy: "keep the tokens whose label is not the ignore index",
        omitted: None,
    },
    Bug {
        id: "padding-attended",
        family: Family::Masking,
        what: "the attention mask does not reach the model, and real tokens attend to padding",
        source: None,
        clauses: &["3.3"],
        remedy: "pass the attention mask on to the attention",
        omitted: None,
    },
    Bug {
        id: "last-token-unknown",
        family: Family::Masking,
        what: "the vocabulary's size is off by one, and its last token becomes token 0",
        source: None,
        clauses: &["6.6"],
        remedy: "check the vocabulary's size: ids run from 0 to V - 1",
        omitted: None,
    },
    Bug {
        id: "pad-in-denominator",
        family: Family::Masking,
        what: "ignored and padded positions are counted in the denominator",
        source: Some(
            "tracel-ai/burn#5568 (Rust; closed; both paths read at 2c06be351), tensorflow/tensorflow#39146 \
             and #34158 (Keras, the same convention), keras-team/keras#15323 (open)",
        ),
        clauses: &["2.9", "3.2"],
        remedy: "divide by the number of labels that are not ignored",
        omitted: None,
    },
    Bug {
        id: "all-ignored-nan",
        family: Family::Masking,
        what: "a group without a supervised token divides zero by zero where zero was declared",
        source: Some(
            "karpathy/nanochat#619 (closed, for #618), NVIDIA-NeMo/Automodel#3796 (open: 3 of 4 losses are \
             unguarded), OpenRLHF/OpenRLHF#583 (merged), allenai/OLMo-core#657 (open); PyTorch's NaN is \
             deliberate: pytorch/pytorch#70348",
        ),
        clauses: &["2.13", "3.4"],
        remedy: "decide what the mean of nothing is (zero, or an error) and test for it before dividing",
        omitted: None,
    },
    Bug {
        id: "empty-groups-skipped",
        family: Family::Masking,
        what: "groups without a supervised token leave the averages where they should count, and the other \
               way round",
        source: None,
        clauses: &["2.13"],
        remedy: "count groups as declared: empty ones stay in the denominator under `zero-counted`, and \
                 leave it under `zero-skipped`",
        omitted: None,
    },
    Bug {
        id: "smoothing-counts-ignored",
        family: Family::Masking,
        what: "the uniform part of label smoothing is taken of ignored positions too",
        source: Some(
            "pytorch/pytorch#73205 (closed), huggingface/transformers#5919 (review), tinygrad/tinygrad#3570 \
             (closed)",
        ),
        clauses: &["1.6", "3.1"],
        remedy: "mask both parts of the smoothed loss",
        omitted: None,
    },
    Bug {
        id: "class-weight-wrong-gather",
        family: Family::Masking,
        what: "class weights are applied with the first class's weight for every token, and nobody divides \
               by their sum",
        source: Some("tracel-ai/burn#772 @a20a1a8ce (Rust; binary cross-entropy; diff read)"),
        clauses: &[],
        remedy: "multiply each token loss by the weight of its own target, and divide by the sum of these \
                 weights",
        omitted: Some(
            "class weights reach a trainer as upstream weights, and taking the first one for all is \
             ce-upstream-grad-scalar",
        ),
    },
];
