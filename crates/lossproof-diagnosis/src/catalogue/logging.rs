//! Evaluation and logging: what is reported.

use super::{Bug, Family};

pub(super) const BUGS: &[Bug] = &[
    Bug {
        id: "log-loss-misscaled-under-ga",
        family: Family::Logging,
        what: "the loss that is logged is the mean of the micro-batches' means, whatever is trained on",
        source: Some(
            "allenai/allennlp#4706 (merged), Lightning-AI/pytorch-lightning#2569 (fixed), \
             huggingface/transformers#35204 (too large), BottleCapAI/NoCap-Test#2 (merged; about 32 times \
             too small)",
        ),
        clauses: &["4.7"],
        remedy: "report the window's sum of token losses over its tokens",
        omitted: None,
    },
    Bug {
        id: "grad-norm-after-clipping",
        family: Family::Logging,
        what: "the gradient norm that is logged is measured after clipping, and never above the threshold",
        source: None,
        clauses: &["7.1"],
        remedy: "log the norm that clipping compares",
        omitted: None,
    },
    Bug {
        id: "ppl-average-of-batch-averages",
        family: Family::Logging,
        what: "perplexity weights the mean of each batch by its sequences, not by its tokens",
        source: Some(
            "keras-team/keras-hub#2958 (merged); alike facebookresearch/ParlAI#623 (merged; a table of how \
             it drifts with the batch size) and apache/mxnet#5905 (merged)",
        ),
        clauses: &["8.1", "8.4", "8.6"],
        remedy: "exponentiate the sum of all token losses over their number",
        omitted: None,
    },
    Bug {
        id: "ppl-mean-of-exp",
        family: Family::Logging,
        what: "the losses of the tokens are exponentiated first and averaged then",
        source: Some(
            "magenta/magenta#239 (merged, a change in the wrong direction), alexiglad/EBT#3 (closed)",
        ),
        clauses: &["8.1"],
        remedy: "average first, exponentiate once",
        omitted: None,
    },
    Bug {
        id: "perplexity-wrong-base",
        family: Family::Logging,
        what: "perplexity is 2 to the power of a loss in nats",
        source: None,
        clauses: &["8.1", "8.3", "8.7"],
        remedy: "take exp of nats, or 2 to the power of bits",
        omitted: None,
    },
    Bug {
        id: "eval-batch-misweighted",
        family: Family::Logging,
        what: "the last, smaller batch is filled with samples from the start, which are scored again",
        source: Some(
            "huggingface/transformers#41898 (closed), #16716 and its fix #16763 (merged), \
             mosaicml/composer#2218 (merged: samples are scored twice), huggingface/transformers#24839",
        ),
        clauses: &["8.2", "8.4"],
        remedy: "weight by real tokens, and drop the samples that fill a batch",
        omitted: None,
    },
    Bug {
        id: "val-loss-leaks-into-train-buffer",
        family: Family::Logging,
        what: "training adds its loss to a buffer that the validation has added to and not cleared",
        source: Some(
            "karpathy/llm.c@d2f06ae after @8b36c2f (both diffs read); alike NVIDIA/Megatron-LM#6237 \
             (counted twice after resuming)",
        ),
        clauses: &["8.5"],
        remedy: "give every measurement an accumulator of its own, or clear it when the phase changes",
        omitted: None,
    },
    Bug {
        id: "train-mode-not-restored",
        family: Family::Logging,
        what: "evaluation leaves the model in its mode, or runs in that of training with dropout on",
        source: Some(
            "NVIDIA/Megatron-LM#411 (merged; a dropout rate stuck at 0), huggingface/lerobot#3668 (closed), \
             ipolharvard/ethos-ares#20 (confirmed: dropout in evaluation), huggingface/transformers#33844 \
             (as told by OrderLab/TrainCheck)",
        ),
        clauses: &[],
        remedy: "set the mode for an evaluation and restore what it was",
        omitted: Some(
            "it needs training and evaluation as modes of a model with dropout, which no clause speaks of \
             yet",
        ),
    },
    Bug {
        id: "ppl-stride-window",
        family: Family::Logging,
        what: "a sliding window skips the tokens at its edges, or the means of windows of unequal length \
               are averaged",
        source: Some("huggingface/transformers#30975 (closed), #34138 (open), #29028 (open)"),
        clauses: &[],
        remedy: "score each target once, and divide the sum of all losses by their number",
        omitted: Some("it needs a scorer of texts longer than the model's positions"),
    },
    Bug {
        id: "bpb-numerator-denominator-mismatch",
        family: Family::Logging,
        what: "bits per byte adds up losses of special tokens whose bytes are not counted, or counts bytes \
               of a lossy decoding",
        source: Some(
            "thinking-machines-lab/tinker-cookbook#824 (merged), karpathy/nanochat#693 (closed), \
             openai/parameter-golf#1719 (open; about 17 % too large)",
        ),
        clauses: &[],
        remedy: "one mask for losses and bytes, and the bytes of the tokens themselves",
        omitted: Some("it needs a scorer of texts that counts bytes; token ids have none"),
    },
];
