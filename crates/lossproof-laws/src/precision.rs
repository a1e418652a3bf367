//! How far apart two gradients are, and how exact a subject's answers can be.

use lossproof_numerics::{ErrorModel, difference_in_runs};
use lossproof_spec::{GlobalBatch, Role};
use lossproof_subject::{ParameterInfo, SubjectInfo, Tensor, TensorSet};
use std::{iter::once, ops::Range};

/// The largest relative difference of any tensor of one set from that of another, infinite where the other
/// has none like it.
pub fn distance(one: &TensorSet, other: &TensorSet) -> f64 {
    let apart = |(name, tensor): (&String, &Tensor)| match other.get(name) {
        Some(twin) if twin.elements() == tensor.elements() => {
            let actual = |run: Range<usize>, into: &mut [f64]| tensor.write_run(run, into);
            let expected = |run: Range<usize>, into: &mut [f64]| twin.write_run(run, into);
            let difference = difference_in_runs(once(0..tensor.elements()), actual, expected);
            difference.relative_to(difference.expected)
        }
        _ => f64::INFINITY,
    };
    one.iter().map(apart).fold(0.0, f64::max)
}

/// Rounding model of a subject on a batch, by what it says of itself. The head size is not declared; it is at most the
/// width, and the bound grows with it. A layer writes into the residual stream twice, trained or not; of a
/// model that does not say what its parameters do, every matrix is taken for a layer.
#[must_use]
pub fn error_model(info: &SubjectInfo, parameters: &[ParameterInfo], batch: &GlobalBatch) -> ErrorModel {
    let all = || parameters.iter().chain(&info.model.frozen);
    let width = all().find(|p| p.shape.len() == 2).map_or(1, |p| p.shape[1]);
    let count = |role: Role| all().filter(|p| p.role == role && p.shape.len() > 1).count();
    let declared = count(Role::BlockOutput).div_ceil(2);
    let layers = if declared > 0 { declared } else { count(Role::Weight) };
    ErrorModel::new(info.limits.vocabulary, width, 1, layers, batch)
}
