//! Modes of general training loops in Python: transformers and what is built on it, accelerate and Lightning.

use super::{Mode, Promise, Release, Weighing, nan_where_empty, plain};
use lossproof_spec::{Counting, LossSpec};

pub(super) const RELEASES: &[Release] = &[
    Release { name: "transformers 5.24.0", place: "its wheel", modes: &TRANSFORMERS },
    Release { name: "transformers 4.57.1", place: "its wheel", modes: &TRANSFORMERS_4_57 },
    Release { name: "transformers 4.44.2", place: "its wheel", modes: &TRANSFORMERS_4_44 },
    Release {
        name: "accelerate 1.14.0",
        place: "huggingface/accelerate at beb0672aa844",
        modes: &ACCELERATE,
    },
    Release {
        name: "LLaMA-Factory 0.9.5",
        place: "hiyouga/LLaMA-Factory at 7af909522a95",
        modes: &LLAMA_FACTORY,
    },
    Release { name: "axolotl 0.18.0", place: "axolotl-ai-cloud/axolotl at 067b021c8b87", modes: &AXOLOTL },
    Release {
        name: "Lightning 2.6.5",
        place: "Lightning-AI/pytorch-lightning at be98784a1a03",
        modes: &LIGHTNING,
    },
];

const NAIVE: LossSpec = nan_where_empty(LossSpec::naive_accumulated_mean());

const BEFORE_SHIFT: LossSpec = LossSpec { counting: Counting::BeforeShift, ..LossSpec::token_mean() };

const TRANSFORMERS: [Mode; 4] = [
    Mode {
        note: "Trainer with a model whose class names a loss that shifts the labels, as LlamaForCausalLM \
               does.",
        ..plain(
            "transformers:trainer",
            "N",
            LossSpec::token_mean(),
            &[
                "transformers/trainer.py:2338",
                "transformers/trainer.py:2350",
                "transformers/trainer.py:2215",
                "transformers/loss/loss_utils.py:47",
            ],
        )
    },
    Mode {
        name: "transformers:trainer:unshifted",
        divided_by: "N + m",
        weighing: Weighing::spec(BEFORE_SHIFT),
        source: &["transformers/trainer.py:2340", "transformers/trainer.py:543"],
        nearest: None,
        note: "Trainer with a model whose class names no such loss, as GPT2LMHeadModel: the loss shifts the \
               labels all the same, the count does not.",
        promise: PRECISE,
    },
    Mode {
        note: "Trainer with average_tokens_across_devices=False.",
        ..plain(
            "transformers:trainer:local",
            "R·N_r",
            LossSpec::naive_data_parallel(),
            &["transformers/trainer.py:2343", "transformers/trainer.py:2208"],
        )
    },
    Mode {
        note: "Trainer with a model that takes no num_items_in_batch. K is the number of micro-batches that \
               there are, in the last window of an epoch, too.",
        ..plain("transformers:trainer:no-count", "R·K·N_k", NAIVE, &["transformers/trainer.py:2119"])
    },
];

const TRANSFORMERS_4_57: [Mode; 1] = [Mode {
    name: "transformers-4.57.1:trainer",
    divided_by: "N + m",
    weighing: Weighing::spec(BEFORE_SHIFT),
    source: &["transformers/trainer.py:5620", "transformers/trainer.py:5626", "transformers/trainer.py:4154"],
    nearest: None,
    note: "Trainer with any causal language model.",
    promise: Some(Promise { source: "transformers/training_args.py:816", ..PRECISE_LOSS }),
}];

const TRANSFORMERS_4_44: [Mode; 1] =
    [plain("transformers-4.44.2:trainer", "R·K·N_k", NAIVE, &["transformers/trainer.py:3349"])];

const PRECISE: Option<Promise> = Some(PRECISE_LOSS);

const PRECISE_LOSS: Promise = Promise {
    says: "a precise loss by the number of tokens on all devices",
    source: "transformers/training_args.py:268",
    weighing: Weighing::spec(LossSpec::token_mean()),
};

const ACCELERATE: [Mode; 1] = [Mode {
    note: "Accelerator.backward with the mean that a model returns. Its page on gradient accumulation says \
           itself that this is another loss where samples are of unequal size.",
    ..plain("accelerate:backward", "R·K·N_k", NAIVE, &["src/accelerate/accelerator.py:2840"])
}];

const LLAMA_FACTORY: [Mode; 2] = [
    Mode {
        name: "llamafactory:sft",
        divided_by: "N + m",
        weighing: Weighing::spec(BEFORE_SHIFT),
        source: &["pyproject.toml:43"],
        nearest: None,
        note: "Of text models: it takes transformers up to 5.6.0, whose Trainer counts labels before the \
               shift.",
        promise: None,
    },
    Mode {
        name: "llamafactory:sft:multimodal",
        divided_by: "R·K·N_k",
        weighing: Weighing::spec(NAIVE),
        source: &["src/llamafactory/train/sft/trainer.py:71"],
        nearest: None,
        note: "Of models with a processor.",
        promise: Some(Promise {
            says: "avoiding a wrong loss under gradient accumulation",
            source: "src/llamafactory/train/sft/trainer.py:69",
            weighing: Weighing::spec(LossSpec::token_mean()),
        }),
    },
];

const AXOLOTL: [Mode; 1] = [Mode {
    name: "axolotl:sft",
    divided_by: "R·K·N_k",
    weighing: Weighing::spec(NAIVE),
    source: &["src/axolotl/core/trainers/base.py:130"],
    nearest: None,
    note: "Of models whose inner forward, without the head, names no num_items_in_batch, as LlamaModel: \
           transformers 5.14.1 then counts nothing and divides the mean of a micro-batch by K.",
    promise: Some(Promise {
        says: "a gradient that is correct either way",
        source: "src/axolotl/core/trainers/base.py:116",
        weighing: Weighing::spec(LossSpec::token_mean()),
    }),
}];

const LIGHTNING: [Mode; 1] = [Mode {
    name: "lightning:accumulate_grad_batches",
    divided_by: "R·K·N_k",
    weighing: Weighing::spec(NAIVE),
    source: &["src/lightning/pytorch/loops/optimization/automatic.py:83"],
    nearest: None,
    note: "With a training_step that returns a mean, and data parallelism.",
    promise: Some(Promise {
        says: "the effect of one batch that is K, with devices R·K, times as large",
        source: "docs/source-pytorch/common/gradient_accumulation.rst:1",
        weighing: Weighing::spec(LossSpec::token_mean()),
    }),
}];
