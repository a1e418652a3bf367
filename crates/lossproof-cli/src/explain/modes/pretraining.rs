//! Modes of trainers for pretraining: Megatron-LM, torchtitan, nanoGPT and llm.c.

use super::{Mode, Nearest, Promise, Release, Semantics, Weighing, nan_where_empty, padding_counted, plain};
use lossproof_spec::LossSpec;

pub(super) const RELEASES: &[Release] = &[
    Release { name: "Megatron core 0.19.0", place: "NVIDIA/Megatron-LM at 5be9626709af", modes: &MEGATRON },
    Release { name: "torchtitan 0.2.2", place: "pytorch/torchtitan at 73a0e6979dd1", modes: &TORCHTITAN },
    Release {
        name: "torchtitan 0.2.1",
        place: "pytorch/torchtitan at 81af8833ddef",
        modes: &TORCHTITAN_0_2_1,
    },
    Release { name: "nanoGPT", place: "karpathy/nanoGPT at 3adf61e154c3", modes: &NANOGPT },
    Release { name: "llm.c", place: "karpathy/llm.c at f1e2ace65149", modes: &LLM_C },
];

const NAIVE: LossSpec = nan_where_empty(LossSpec::naive_accumulated_mean());

const MEGATRON: [Mode; 2] = [
    Mode {
        note: "calculate_per_token_loss=True.",
        ..plain(
            "megatron:per-token",
            "N",
            LossSpec::token_mean(),
            &[
                "megatron/core/distributed/finalize_model_grads.py:689",
                "megatron/core/distributed/finalize_model_grads.py:694",
                "megatron/core/distributed/distributed_data_parallel.py:183",
            ],
        )
    },
    Mode {
        name: "megatron:default",
        divided_by: "R·K·N_k",
        weighing: Weighing::spec(LossSpec::naive_accumulated_mean()),
        source: &[
            "megatron/core/pipeline_parallel/schedules.py:334",
            "megatron/core/pipeline_parallel/schedules.py:335",
            "megatron/core/distributed/distributed_data_parallel.py:212",
        ],
        nearest: None,
        note: "calculate_per_token_loss=False.",
        promise: Some(Promise {
            says: "counting every token as if none were padding",
            source: "megatron/core/transformer/transformer_config.py:278",
            weighing: Weighing::spec(padding_counted(LossSpec::token_mean())),
        }),
    },
];

const TORCHTITAN: [Mode; 2] = [
    Mode {
        note: "With FSDP or HSDP, whose average is turned off.",
        ..plain(
            "torchtitan:fsdp",
            "N",
            LossSpec::token_mean(),
            &["torchtitan/train.py:538", "torchtitan/models/llama3/infra/parallelize.py:284"],
        )
    },
    Mode {
        name: "torchtitan:ddp",
        divided_by: "R·N",
        weighing: Weighing::spec(LossSpec::averaging_not_undone()),
        source: &["torchtitan/train.py:538", "torchtitan/models/llama3/infra/parallelize.py:372"],
        nearest: None,
        note: "With pure DDP, whose average is not turned off.",
        promise: Some(Promise {
            says: "gradients normalised over all micro-batches",
            source: "torchtitan/train.py:537",
            weighing: Weighing::spec(LossSpec::token_mean()),
        }),
    },
];

const TORCHTITAN_0_2_1: [Mode; 1] = [plain(
    "torchtitan-0.2.1:any",
    "R·K·N_k",
    NAIVE,
    &["torchtitan/components/loss.py:21", "torchtitan/components/loss.py:49"],
)];

const NANOGPT: [Mode; 1] = [Mode {
    note: "Its batches are blocks of equal length, for which this is B.",
    ..plain("nanogpt:any", "R·K·N_k", NAIVE, &["model.py:187", "train.py:301"])
}];

const LLM_C: [Mode; 1] = [Mode {
    name: "llm.c:any",
    divided_by: "R·K·n_k·L_k",
    weighing: Weighing::spec(padding_counted(LossSpec::naive_accumulated_mean())),
    source: &["train_gpt2.cu:819", "llmc/zero.cuh:536"],
    nearest: Some(Nearest {
        semantics: Semantics::NaiveAccumulation,
        when: "the sequences of each micro-batch are equally long",
    }),
    note: "Its batches are blocks of equal length, for which this is B.",
    promise: None,
}];
