//! Every loss spec there is, but for the numbers in it.

use lossproof_spec::{Combine, Counting, EmptyPolicy, LossSpec, Reduction, Scope};
use proptest::prelude::*;

const REDUCTIONS: [Reduction; 4] =
    [Reduction::Sum, Reduction::TokenMean, Reduction::SequenceMean, Reduction::BatchMean];
const SCOPES: [Scope; 3] = [Scope::MicroBatch, Scope::RankWindow, Scope::Global];
const COMBINES: [Combine; 2] = [Combine::Add, Combine::Average];
const POLICIES: [EmptyPolicy; 4] =
    [EmptyPolicy::ZeroCounted, EmptyPolicy::ZeroSkipped, EmptyPolicy::Nan, EmptyPolicy::Error];
const COUNTINGS: [Counting; 3] = [Counting::Supervised, Counting::BeforeShift, Counting::AllPositions];

/// All of them.
pub(crate) fn all_specs() -> impl Iterator<Item = LossSpec> {
    let counted = COUNTINGS.iter().map(|&counting| LossSpec { counting, ..LossSpec::sum() });
    counted
        .flat_map(|spec| POLICIES.map(|empty| LossSpec { empty, ..spec }))
        .flat_map(|spec| COMBINES.map(|ranks| LossSpec { ranks, ..spec }))
        .flat_map(|spec| COMBINES.map(|micro_batches| LossSpec { micro_batches, ..spec }))
        .flat_map(|spec| SCOPES.map(|scope| LossSpec { scope, ..spec }))
        .flat_map(|spec| REDUCTIONS.map(|reduction| LossSpec { reduction, ..spec }))
}

/// Any of them.
pub(crate) fn specs() -> impl Strategy<Value = LossSpec> {
    proptest::sample::select(all_specs().collect::<Vec<_>>())
}
