//! Values of tensors by name: parameters and gradients, in f64.

use lossproof_numerics::vector::{self, norm_of_parts};
use lossproof_subject::TensorSet;
use std::collections::BTreeMap;

/// Values of tensors in row-major order, by the tensor's name.
pub(crate) type NamedValues = BTreeMap<String, Vec<f64>>;

/// The values of a set of tensors.
pub(crate) fn named_values(set: &TensorSet) -> NamedValues {
    set.iter().map(|(name, tensor)| (name.clone(), tensor.to_f64())).collect()
}

/// The norm over all tensors.
pub(crate) fn global_norm(values: &NamedValues) -> f64 {
    norm_of_parts(values.values().map(Vec::as_slice))
}

/// How far all tensors are from those of the same names.
pub(crate) fn distance(from: &NamedValues, to: &NamedValues) -> f64 {
    let of_tensor = |(name, values): (&String, &Vec<f64>)| {
        vector::distance(values, to.get(name).map_or(&[][..], Vec::as_slice))
    };
    vector::norm(&from.iter().map(of_tensor).collect::<Vec<_>>())
}

/// The first of some names, and how many more there are.
pub(crate) fn several(names: &[&str]) -> String {
    let first = names.iter().take(4).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 4 { format!("{first} and {} more", names.len() - 4) } else { first }
}
