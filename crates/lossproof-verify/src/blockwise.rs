//! Comparing whole gradients block by block.

use super::row::RowBuilder;
use lossproof_laws::blocks::{Blocks, Expected, Scales, name, norm};
use lossproof_numerics::difference;
use lossproof_subject::TensorSet;

/// Holds every block of `actual` to what is expected of its parameter, within `bound` of the block's scale.
pub(crate) fn compare<'a>(
    row: &mut RowBuilder,
    blocks: &'a Blocks,
    scales: &Scales,
    bound: f64,
    actual: &TensorSet,
    expected: impl Fn(&'a str) -> Expected<'a>,
) {
    for (block, scale) in blocks.with_scales(scales) {
        let at = || name(block);
        let Some(tensor) = actual.get(&block.parameter) else {
            row.hold(|| format!("{} was not handed over", block.parameter), f64::INFINITY, bound);
            continue;
        };
        let expected = expected(&block.parameter);
        let error = |factor: f64| {
            difference(|index| factor * tensor.get(index), &expected, block.indices()).relative_to(scale)
        };
        if block.structurally_zero {
            row.hold(at, error(1.0).max(norm(actual, block) / scale), bound);
        } else {
            row.compare(at, bound, norm(actual, block) / scale, error);
            row.end_unit();
        }
    }
}
