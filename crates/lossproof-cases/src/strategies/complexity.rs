//! How complicated a draft is: the order in which shrinking descends.

use super::draft::{Draft, Row};
use crate::Scale;
use lossproof_spec::{Combine, EmptyPolicy, LossSpec, Reduction, Scope};

/// From the simplest on.
pub(super) const REDUCTIONS: [Reduction; 4] =
    [Reduction::TokenMean, Reduction::Sum, Reduction::SequenceMean, Reduction::BatchMean];
/// From the simplest on.
pub(super) const SCOPES: [Scope; 3] = [Scope::Global, Scope::MicroBatch, Scope::RankWindow];
/// From the simplest on.
pub(super) const COMBINES: [Combine; 2] = [Combine::Add, Combine::Average];
/// From the simplest on.
pub(super) const POLICIES: [EmptyPolicy; 4] = EmptyPolicy::ALL;

/// Compared field by field, the first difference decides. A simplification lowers it, so shrinking ends.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Complexity {
    ranks: usize,
    micro_batches: usize,
    sequences: usize,
    positions: usize,
    documents: usize,
    padded: usize,
    ignored: usize,
    tokens: u64,
    spec: [usize; 7],
    gpt2_scale: bool,
    upstream: usize,
    upstream_not_one: usize,
    seed: u64,
}

impl Complexity {
    pub(super) fn of(draft: &Draft) -> Self {
        let padding = |row: &Row| u64::from(row.padding) * row.padded() as u64;
        let ids = |row: &Row| padding(row) + row.tokens().map(|token| u64::from(token.id)).sum::<u64>();
        Self {
            ranks: draft.ranks.len(),
            micro_batches: draft.ranks.iter().map(Vec::len).sum(),
            sequences: draft.rows().count(),
            positions: draft.rows().map(Row::len).sum(),
            documents: draft.rows().map(|row| row.documents.len()).sum(),
            padded: draft.rows().map(Row::padded).sum(),
            ignored: draft.rows().flat_map(Row::tokens).filter(|token| !token.labelled).count(),
            tokens: draft.rows().map(ids).sum(),
            spec: of_spec(&draft.spec),
            gpt2_scale: draft.scale == Scale::Gpt2,
            upstream: draft.upstream.len(),
            upstream_not_one: draft.upstream.iter().filter(|&&weight| !is(weight, 1.0)).count(),
            seed: draft.seed,
        }
    }
}

fn of_spec(spec: &LossSpec) -> [usize; 7] {
    [
        place(&REDUCTIONS, spec.reduction),
        place(&SCOPES, spec.scope),
        place(&COMBINES, spec.micro_batches),
        place(&COMBINES, spec.ranks),
        place(&POLICIES, spec.empty),
        usize::from(!is(spec.label_smoothing, 0.0)),
        usize::from(!is(spec.z_loss, 0.0)),
    ]
}

fn place<T: PartialEq + Copy>(simplest_first: &[T], value: T) -> usize {
    simplest_first.iter().position(|candidate| *candidate == value).unwrap_or(simplest_first.len())
}

fn is(value: f64, exactly: f64) -> bool {
    value.total_cmp(&exactly).is_eq()
}
