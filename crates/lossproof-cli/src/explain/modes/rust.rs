//! Modes of Rust libraries: burn, candle and tch.
//!
//! They reduce one micro-batch and add the gradients of several calls; to divide by their number is the
//! caller's.

use super::{Mode, Nearest, Promise, Release, Semantics, Weighing, nan_where_empty, padding_counted, plain};
use lossproof_spec::LossSpec;

pub(super) const RELEASES: &[Release] = &[
    Release { name: "burn-nn 0.22.1", place: "tracel-ai/burn at 907ab111a02c", modes: &BURN },
    Release { name: "burn-nn 0.21.0", place: "tracel-ai/burn at 546cacb55fe0", modes: &BURN_0_21 },
    Release { name: "candle-nn 0.11.1", place: "huggingface/candle at 59f8e903ca80", modes: &CANDLE },
    Release { name: "tch 0.24.0", place: "LaurentMazare/tch-rs at df4c0fdfa375", modes: &TCH },
];

const ADDED: LossSpec = nan_where_empty(LossSpec::forgotten_division());

const ALL_ROWS: LossSpec = padding_counted(LossSpec::forgotten_division());

const NEAREST: Option<Nearest> = Some(Nearest {
    semantics: Semantics::ForgottenDivision,
    when: "the sequences of each micro-batch are equally long",
});

const BURN: [Mode; 1] = [Mode {
    note: "CrossEntropyLoss with pad_tokens, and GradientsAccumulator.",
    ..plain(
        "burn:cross-entropy",
        "N_k",
        ADDED,
        &["crates/burn-nn/src/loss/cross_entropy.rs:240", "crates/burn-optim/src/optim/grad_accum.rs:62"],
    )
}];

const BURN_0_21: [Mode; 1] = [Mode {
    name: "burn-0.21.0:cross-entropy",
    divided_by: "n_k·L_k",
    weighing: Weighing::spec(ALL_ROWS),
    source: &["crates/burn-nn/src/loss/cross_entropy.rs:194", "crates/burn-optim/src/optim/grad_accum.rs:62"],
    nearest: NEAREST,
    note: "CrossEntropyLoss with pad_tokens, and GradientsAccumulator.",
    promise: Some(Promise {
        says: "ignoring pad tokens",
        source: "crates/burn-nn/src/loss/cross_entropy.rs:82",
        weighing: Weighing::spec(LossSpec::forgotten_division()),
    }),
}];

const CANDLE: [Mode; 1] = [Mode {
    name: "candle:cross_entropy",
    divided_by: "n_k·L_k",
    weighing: Weighing::spec(ALL_ROWS),
    source: &["candle-nn/src/loss.rs:29", "candle-core/src/backprop.rs:784"],
    nearest: NEAREST,
    note: "There is no ignored label: padding counts unless its rows are left out before, and what its own \
           loss weighs is not shown here. Gradients of several calls are added by GradStore::extend.",
    promise: None,
}];

const TCH: [Mode; 1] = [Mode {
    note: "Gradients of several calls of backward are added, as PyTorch does.",
    ..plain("tch:cross_entropy_for_logits", "N_k", ADDED, &["src/tensor/mod.rs:159", "src/tensor/mod.rs:166"])
}];
