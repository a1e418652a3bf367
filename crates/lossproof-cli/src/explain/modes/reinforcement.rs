//! Modes of trainers for reinforcement learning: verl and TRL.
//!
//! A loss is that of a token of a response; what the model is asked is not supervised.

use super::{Mode, Nearest, Promise, Release, Semantics, Weighing, averaged, plain};
use lossproof_spec::{EmptyPolicy, LossSpec, Reduction};

pub(super) const RELEASES: &[Release] = &[
    Release { name: "verl 0.9.0", place: "verl-project/verl at 483b8a009ba3", modes: &VERL },
    Release { name: "verl 0.6.1", place: "verl-project/verl at d62da4950573", modes: &VERL_0_6 },
    Release { name: "TRL 1.9.0", place: "huggingface/trl at 35def3ee000a", modes: &TRL },
];

const EQUAL_MICRO_BATCHES: &str = "all micro-batches hold equally many sequences";

/// Counts come from all ranks, and a factor R undoes the average that FSDP takes.
const VERL: [Mode; 5] = [
    plain(
        "verl:token-mean",
        "N",
        LossSpec::token_mean(),
        &["verl/trainer/ppo/core_algos.py:1175", "verl/workers/engine/fsdp/transformer_impl.py:706"],
    ),
    plain("verl:token-sum", "nothing", LossSpec::sum(), &["verl/trainer/ppo/core_algos.py:1180"]),
    plain(
        "verl:seq-mean-token-sum",
        "n",
        LossSpec::batch_mean(),
        &["verl/trainer/ppo/core_algos.py:1188", "verl/trainer/ppo/ray_trainer.py:1337"],
    ),
    plain(
        "verl:seq-mean-token-mean",
        "n·l_i",
        LossSpec::sequence_mean(),
        &["verl/trainer/ppo/core_algos.py:1196", "verl/trainer/ppo/core_algos.py:1202"],
    ),
    Mode {
        name: "verl:seq-mean-token-sum-norm",
        divided_by: "n·L",
        weighing: Weighing::per_length(LossSpec::batch_mean()),
        source: &["verl/trainer/ppo/core_algos.py:1188", "verl/trainer/ppo/core_algos.py:1193"],
        nearest: Some(Nearest { semantics: Semantics::BatchMean, when: "L is 1" }),
        note: "L is loss_scale_factor, or the width of the responses where that is not set; where it is the \
               losses of the longest sequence, this is B, padding counted, which a spec can say.",
        promise: Some(Promise {
            says: "turning the average over sequences off",
            source: "docs/algo/grpo.md:59",
            weighing: Weighing::per_length(LossSpec::sum()),
        }),
    },
];

const SKIPPED: &str = "A sequence without a loss is not counted, but a micro-batch without one is (the spec \
                       leaves both out).";
const DYNAMIC: &str = "With use_dynamic_bsz.";

/// Every micro-batch counts for itself; its loss is then divided by K, or weighed by its share of sequences.
const VERL_0_6: [Mode; 7] = [
    Mode {
        name: "verl-0.6.1:token-mean",
        divided_by: "R·K·N_k",
        weighing: Weighing::spec(LossSpec::naive_accumulated_mean()),
        source: &["verl/trainer/ppo/core_algos.py:788", "verl/workers/actor/dp_actor.py:436"],
        nearest: None,
        note: "",
        promise: PROMISED_BY_VERL_0_6,
    },
    Mode {
        name: "verl-0.6.1:seq-mean-token-sum",
        divided_by: "R·K·n_k",
        weighing: Weighing::spec(skipping(averaged(Reduction::BatchMean))),
        source: &["verl/trainer/ppo/core_algos.py:792", "verl/workers/actor/dp_actor.py:436"],
        nearest: Some(Nearest { semantics: Semantics::BatchMean, when: EQUAL_MICRO_BATCHES }),
        note: SKIPPED,
        promise: None,
    },
    Mode {
        name: "verl-0.6.1:seq-mean-token-mean",
        divided_by: "R·K·n_k·l_i",
        weighing: Weighing::spec(skipping(averaged(Reduction::SequenceMean))),
        source: &[
            "verl/trainer/ppo/core_algos.py:795",
            "verl/trainer/ppo/core_algos.py:797",
            "verl/workers/actor/dp_actor.py:436",
        ],
        nearest: Some(Nearest { semantics: Semantics::SequenceMean, when: EQUAL_MICRO_BATCHES }),
        note: SKIPPED,
        promise: None,
    },
    Mode {
        name: "verl-0.6.1:seq-mean-token-sum-norm",
        divided_by: "R·K·L",
        weighing: Weighing::per_length(averaged(Reduction::Sum)),
        source: &["verl/trainer/ppo/core_algos.py:800", "verl/workers/actor/dp_actor.py:436"],
        nearest: Some(Nearest { semantics: Semantics::Sum, when: "K, R and L are 1" }),
        note: "L is the width of the responses, padding included. No number of sequences divides, whatever \
               the name says.",
        promise: None,
    },
    Mode {
        name: "verl-0.6.1:token-mean:dynamic",
        divided_by: "R·N_k·n_r/n_k",
        weighing: Weighing::by_sequences(LossSpec::naive_accumulated_mean()),
        source: &["verl/trainer/ppo/core_algos.py:788", "verl/workers/actor/dp_actor.py:434"],
        nearest: Some(Nearest {
            semantics: Semantics::NaiveAccumulation,
            when: "all micro-batches of a rank hold equally many sequences",
        }),
        note: DYNAMIC,
        promise: PROMISED_BY_VERL_0_6,
    },
    Mode {
        name: "verl-0.6.1:seq-mean-token-sum:dynamic",
        divided_by: "R·n_r",
        weighing: Weighing::by_sequences(skipping(averaged(Reduction::BatchMean))),
        source: &["verl/trainer/ppo/core_algos.py:792", "verl/workers/actor/dp_actor.py:434"],
        nearest: Some(Nearest {
            semantics: Semantics::BatchMean,
            when: "all ranks hold equally many sequences and each has a loss",
        }),
        note: "With use_dynamic_bsz. Where every sequence has a loss, it is D of each rank, ranks averaged, \
               which a spec can say.",
        promise: None,
    },
    Mode {
        name: "verl-0.6.1:seq-mean-token-mean:dynamic",
        divided_by: "R·n_r·l_i",
        weighing: Weighing::by_sequences(skipping(averaged(Reduction::SequenceMean))),
        source: &[
            "verl/trainer/ppo/core_algos.py:795",
            "verl/trainer/ppo/core_algos.py:797",
            "verl/workers/actor/dp_actor.py:434",
        ],
        nearest: Some(Nearest {
            semantics: Semantics::SequenceMean,
            when: "all ranks hold equally many sequences and each has a loss",
        }),
        note: "With use_dynamic_bsz. Where every sequence has a loss, it is C of each rank, ranks averaged, \
               which a spec can say.",
        promise: None,
    },
];

/// The page on DAPO, of its token-level loss.
const PROMISED_BY_VERL_0_6: Option<Promise> = Some(Promise {
    says: "the mean over all tokens of the mini-batch",
    source: "docs/algo/dapo.md:120",
    weighing: Weighing::spec(LossSpec::token_mean()),
});

/// What it is to leave sequences without a loss out of the count.
const fn skipping(spec: LossSpec) -> LossSpec {
    LossSpec { empty: EmptyPolicy::ZeroSkipped, ..spec }
}

const TRL: [Mode; 5] = [
    Mode {
        note: "It takes the count of transformers' Trainer, so of a GPT2LMHeadModel it is \
               transformers:trainer:unshifted.",
        ..plain(
            "trl:sft",
            "N",
            LossSpec::token_mean(),
            &["trl/trainer/sft_trainer.py:1741", "trl/trainer/sft_trainer.py:233"],
        )
    },
    Mode {
        name: "trl:grpo",
        divided_by: "R·K·n_k·l_i",
        weighing: Weighing::spec(averaged(Reduction::SequenceMean)),
        source: &["trl/trainer/grpo_trainer.py:3125", "trl/trainer/grpo_trainer.py:3128"],
        nearest: Some(Nearest { semantics: Semantics::SequenceMean, when: EQUAL_MICRO_BATCHES }),
        note: "loss_type=\"grpo\", and \"sapo\", which differs in the token losses.",
        promise: None,
    },
    Mode {
        note: "loss_type=\"bnpo\". Its documentation says itself that the result depends on the micro-batch \
               size.",
        ..plain(
            "trl:bnpo",
            "R·K·N_k",
            LossSpec::naive_accumulated_mean(),
            &["trl/trainer/grpo_trainer.py:3130", "trl/trainer/grpo_trainer.py:3133"],
        )
    },
    Mode {
        name: "trl:dr_grpo",
        divided_by: "R·K·n_k·L",
        weighing: Weighing::per_length(averaged(Reduction::BatchMean)),
        source: &["trl/trainer/grpo_trainer.py:3135", "trl/trainer/grpo_trainer.py:3138"],
        nearest: Some(Nearest {
            semantics: Semantics::BatchMean,
            when: "L is 1 and all micro-batches hold equally many sequences",
        }),
        note: "loss_type=\"dr_grpo\". L is max_completion_length.",
        promise: None,
    },
    Mode {
        note: "loss_type=\"dapo\", and \"cispo\" and \"vespo\", which differ in the token losses. N is \
               counted when responses are generated: it is that of the step where steps_per_generation is K, \
               as by default; otherwise all weights are divided by another number.",
        ..plain(
            "trl:dapo",
            "N",
            LossSpec::token_mean(),
            &["trl/trainer/grpo_trainer.py:2427", "trl/trainer/grpo_trainer.py:3140"],
        )
    },
];
