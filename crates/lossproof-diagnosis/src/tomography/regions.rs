//! The weights that each region of the gradient shows for itself.

use super::{
    Basis, Precision, Tomogram, TomographyError, part_equations::PartEquations, recover::recover_from,
};
use lossproof_subject::TensorSet;
use std::collections::BTreeMap;

/// How many equations per unknown a region should have.
const EQUATIONS_PER_UNKNOWN: usize = 2;

/// Parameters whose gradient shows weights of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// `h.0.mlp.c_fc.weight`, `h.*.attn.c_attn.bias`, `layer norms` or `biases`.
    pub name: String,
    /// The parameters.
    pub parameters: Vec<String>,
    /// The weights in their gradient.
    pub tomogram: Tomogram,
}

/// Recovers the weights region by region. Where a backward pass treats all tensors alike they all show the
/// same weights; a layer norm that keeps the gradient of the last micro-batch alone shows zeros for the
/// others.
///
/// A region is the smallest of these with at least two equations per unknown: a parameter; parameters of one
/// name in all layers; the layer norms, or the biases, that are still too small. Where even those have too
/// few, their tomogram says so in its groups.
///
/// # Errors
/// As [`recover`](super::recover).
pub fn recover_by_region(
    basis: &Basis,
    gradient: &TensorSet,
    precision: &Precision,
) -> Result<Vec<Region>, TomographyError> {
    let all = PartEquations::new(basis, gradient, precision)?;
    let mut left: Vec<usize> = (0..basis.parts().len()).collect();
    let levels: [fn(&str) -> String; 3] = [str::to_owned, in_all_layers, kind];
    let last = levels.len() - 1;
    let mut regions = Vec::new();
    for (level, name) in levels.into_iter().enumerate() {
        let mut named: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for &part in &left {
            named.entry(name(&basis.parts()[part].parameter)).or_default().push(part);
        }
        left.clear();
        for (name, parts) in named {
            let equations: usize = parts.iter().map(|&part| all.of_part[part].equations()).sum();
            if equations < EQUATIONS_PER_UNKNOWN * basis.len() && level < last {
                left.extend(parts);
                continue;
            }
            let mut parameters: Vec<_> =
                parts.iter().map(|&part| basis.parts()[part].parameter.clone()).collect();
            parameters.dedup();
            regions.push(Region { name, parameters, tomogram: recover_from(&all, &parts)? });
        }
        left.sort_unstable();
    }
    Ok(regions)
}

/// `h.*.ln_1.weight` for `h.0.ln_1.weight`.
fn in_all_layers(parameter: &str) -> String {
    let layer = parameter.strip_prefix("h.").and_then(|rest| rest.split_once('.'));
    match layer {
        Some((number, rest)) if number.parse::<usize>().is_ok() => format!("h.*.{rest}"),
        _ => parameter.to_owned(),
    }
}

fn kind(parameter: &str) -> String {
    if parameter.contains("ln_") {
        "layer norms".to_owned()
    } else if parameter.ends_with("bias") {
        "biases".to_owned()
    } else {
        in_all_layers(parameter)
    }
}
