//! Reduction and gradient accumulation: which weight a token loss has, and how micro-batches and ranks are
//! put together.

use super::{Bug, Family};

pub(super) const BUGS: &[Bug] = &[
    Bug {
        id: "ga-mean-of-means",
        family: Family::Accumulation,
        what: "each micro-batch is averaged over its own tokens, and the averages are averaged",
        source: Some(
            "huggingface/transformers#34191 (merged fix), unslothai/unsloth#1134 (merged; only its title \
             was read), meta-pytorch/torchtune#1875 (merged), huggingface/trl#2175 (original report), \
             allenai/open-instruct#1736 (closed, for #1728)",
        ),
        clauses: &["2.2", "4.1"],
        remedy: "sum the token losses and divide once by the supervised tokens of all micro-batches",
        omitted: None,
    },
    Bug {
        id: "ga-missing-division-k-times",
        family: Family::Accumulation,
        what: "micro-batches that should be averaged are added, and the gradient grows with their number",
        source: Some(
            "huggingface/transformers#35207 (merged fix, with run logs), #34511 (merged refactoring that \
             brought it), #35438 (merged; with two micro-batches the loss doubles), #37766 (issue, closed), \
             huggingface/trl#3716 @c949b66f0 (same cause in ORPO; diff read)",
        ),
        clauses: &["2.5", "4.3"],
        remedy: "divide each micro-batch's mean by the number of micro-batches",
        omitted: None,
    },
    Bug {
        id: "ga-means-added",
        family: Family::Accumulation,
        what: "each micro-batch is averaged over its own tokens, and the averages are added: nobody divides \
               by their number",
        source: Some("huggingface/transformers#35207"),
        clauses: &["2.2", "4.1"],
        remedy: "divide the sum of all token losses by the supervised tokens of all micro-batches",
        omitted: None,
    },
    Bug {
        id: "ga-normalised-twice",
        family: Family::Accumulation,
        what: "a loss that is divided by its tokens already is divided by them again",
        source: Some(
            "d2l-ai/d2l-en#2707 (a mean over positions divided by the valid length; closed), \
             modelscope/easydistill#16 (review by a bot: KL divided by the token count twice), \
             huggingface/accelerate#3533 (contested report that trainer and accelerate both divide)",
        ),
        clauses: &["1.3", "2.2", "2.6", "2.12", "4.3", "5.3"],
        remedy: "divide once: hand a sum to whoever divides",
        omitted: None,
    },
    Bug {
        id: "reduction-mode-ignored",
        family: Family::Accumulation,
        what: "the mean over tokens is hard-wired, whatever reduction was asked for",
        source: Some(
            "OpenNMT/OpenNMT-py#526 (merged); beside it NVIDIA-NeMo/Speech#8343 (a dispute whether to \
             divide by samples or tokens) and huggingface/trl#3138 (three normalisers compared)",
        ),
        clauses: &["2.1", "2.3", "2.4", "2.10"],
        remedy: "pass the reduction that was asked for to every path",
        omitted: None,
    },
    Bug {
        id: "token-mean-not-divided",
        family: Family::Accumulation,
        what: "the number of tokens does not reach the loss, and the mean stays a sum",
        source: Some("huggingface/transformers#35207"),
        clauses: &["2.2", "2.5", "2.10"],
        remedy: "divide the sum by the number of supervised tokens",
        omitted: None,
    },
    Bug {
        id: "batch-mean-of-a-micro-batch",
        family: Family::Accumulation,
        what: "the sum is divided by the sequences of its own micro-batch instead of those of the batch",
        source: None,
        clauses: &["2.4", "4.1"],
        remedy: "count the sequences of the whole batch",
        omitted: None,
    },
    Bug {
        id: "rank-local-token-mean",
        family: Family::Accumulation,
        what: "each rank divides by its own tokens, and gradients are averaged over ranks",
        source: Some(
            "pytorch/torchtitan#2206 (merged), huggingface/transformers#34242 (closed), \
             PrimeIntellect-ai/prime-rl#2562 (merged), NVIDIA/Megatron-LM#7452 (open, reported with the \
             help of an AI: a prediction head gives 14/3 where the global value is 4)",
        ),
        clauses: &["2.2", "5.2"],
        remedy: "all-reduce the number of tokens before dividing",
        omitted: None,
    },
    Bug {
        id: "dp-average-not-undone",
        family: Family::Accumulation,
        what: "the tokens of all ranks are counted, and the all-reduce averages over ranks nevertheless",
        source: Some(
            "meta-pytorch/torchtune#2172 (merged), #2687 @137eec3d0 (degree of data parallelism for the \
             world size; diff read), NVIDIA-NeMo/Automodel#3830 (sequence classification, status not seen; \
             factors of 8, 4 and 1 in a table), NVIDIA/Megatron-LM#906 and @3bdcbbbe5d (factor of context \
             parallelism; diff read)",
        ),
        clauses: &["2.2", "5.1", "5.5"],
        remedy: "multiply by the world size, or add gradients in the all-reduce",
        omitted: None,
    },
    Bug {
        id: "dp-average-dropped",
        family: Family::Accumulation,
        what: "the all-reduce adds where each rank has divided by its own count already",
        source: Some("meta-pytorch/torchtune#2687"),
        clauses: &["2.7", "2.8", "5.1", "5.3"],
        remedy: "average over ranks, or divide by the count of all of them",
        omitted: None,
    },
    Bug {
        id: "counted-before-shift",
        family: Family::Accumulation,
        what: "the normaliser counts labels before the shift, one too many for each sequence whose first \
               label is given",
        source: Some(
            "huggingface/transformers, measured, no report known: 4.57.1 and 5.9.0 (GPT2LMHeadModel and \
             LlamaForCausalLM), 5.10.1, 5.23.0 and 5.24.0 (GPT2LMHeadModel; in 5.24.0 BertLMHeadModel and \
             OpenAIGPTLMHeadModel too), and trl 1.16.0 on 5.24.0 (GPT2LMHeadModel)",
        ),
        clauses: &["1.1", "2.9"],
        remedy: "count the labels from the second position on",
        omitted: None,
    },
    Bug {
        id: "z-loss-not-weighed",
        family: Family::Accumulation,
        what: "the z-loss is added outside the reduction: summed over tokens, whatever a token weighs",
        source: None,
        clauses: &["1.7"],
        remedy: "reduce the z-loss as the cross-entropy",
        omitted: None,
    },
    Bug {
        id: "ga-partial-window-underscaled",
        family: Family::Accumulation,
        what: "a window that is shorter than usual is divided by the usual number of micro-batches",
        source: Some(
            "huggingface/transformers#38872 (closed, for #38837; logs show the loss fall from 0.998 to \
             0.499), Lightning-AI/pytorch-lightning#19987 (open), modelscope/ms-swift#10084 (merged; its \
             test compares with the batch in one piece)",
        ),
        clauses: &["4.4"],
        remedy: "divide by the micro-batches that the window has",
        omitted: None,
    },
    Bug {
        id: "ga-partial-window-dropped",
        family: Family::Accumulation,
        what: "a window that is shorter than usual goes through backward and never reaches the update",
        source: Some(
            "tracel-ai/burn#5695 (Rust; closed; loop read at 2c06be351), NVIDIA-NeMo/Automodel#2257 (merged)",
        ),
        clauses: &["4.1", "4.4"],
        remedy: "step with the last, shorter window too, divided by its own number of micro-batches",
        omitted: None,
    },
    Bug {
        id: "window-counter-off-by-one",
        family: Family::Accumulation,
        what: "the micro-batches are averaged by a counter that is one ahead",
        source: None,
        clauses: &["2.5", "4.3", "4.6"],
        remedy: "divide by the number of micro-batches accumulated",
        omitted: None,
    },
    Bug {
        id: "ga-scale-by-sample-ratio",
        family: Family::Accumulation,
        what: "a micro-batch's mean over tokens is weighted by its share of the sequences",
        source: Some("verl-project/verl#5641 (closed, for #5625; with a derivation)"),
        clauses: &["2.2", "4.1"],
        remedy: "weight a mean over tokens by its share of the tokens",
        omitted: None,
    },
    Bug {
        id: "zero-grad-wrong-place",
        family: Family::Accumulation,
        what: "gradients are cleared for every micro-batch, and only the last of the window counts",
        source: Some(
            "pytorch/torchtitan#3575 @da230bbb2 (diff read), tatsu-lab/alpaca_farm#57 (confirmed by a \
             maintainer) and #58, bytetriper/RAE#67, ultralytics/ultralytics#11217 (merged; cleared at the \
             start of an epoch)",
        ),
        clauses: &["2.2", "4.1", "4.2"],
        remedy: "clear gradients once per optimizer step, before the window's first micro-batch",
        omitted: None,
    },
    Bug {
        id: "ga-running-average",
        family: Family::Accumulation,
        what: "each new micro-batch is averaged with what was accumulated so far, so the first weigh least",
        source: None,
        clauses: &["4.2"],
        remedy: "add the micro-batches, and divide once",
        omitted: None,
    },
    Bug {
        id: "all-reduce-missing",
        family: Family::Accumulation,
        what: "the gradients of ranks are not reduced: rank 0 steps with its own",
        source: None,
        clauses: &["5.2", "5.3", "5.4"],
        remedy: "all-reduce gradients before the step",
        omitted: None,
    },
    Bug {
        id: "zero-grad-sparse-rows",
        family: Family::Accumulation,
        what: "only what is written again is cleared: an element without a gradient keeps that of the \
               window before",
        source: Some("paiml/entrenar#257 (Rust; merged), karpathy/llm.c#548 @54ec686"),
        clauses: &["4.5"],
        remedy: "clear the whole gradient before each window",
        omitted: None,
    },
];
