//! Comparing gradients block by block.

use lossproof_numerics::{Block, difference_in_runs, gradient_blocks};
use lossproof_spec::GlobalBatch;
use lossproof_subject::{ParameterInfo, TensorSet};
use std::{collections::BTreeMap, ops::Range};

/// The blocks of a model's gradient on a batch: the units that are compared.
pub struct Blocks(Vec<Block>);

/// What an error of each block is relative to.
pub struct Scales(Vec<f64>);

impl Blocks {
    /// The blocks of these parameters.
    #[must_use]
    pub fn new(batch: &GlobalBatch, parameters: &[ParameterInfo]) -> Self {
        Self(gradient_blocks(batch, parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice(), p.role))))
    }

    /// Says of some of these parameters that their gradient may be zero.
    pub(crate) fn may_be_zero(&mut self, some: fn(&ParameterInfo) -> bool, parameters: &[ParameterInfo]) {
        for block in &mut self.0 {
            let mut own = parameters.iter().filter(|parameter| parameter.name == block.parameter);
            block.may_be_zero |= own.any(some);
        }
    }

    /// Every block, in the order of the parameters.
    #[must_use]
    pub fn all(&self) -> &[Block] {
        &self.0
    }

    /// Scales from `own`, the size of each block in turn: `max(‖g‖, Σ_i |w_i|·‖g_i‖)`, the `g_i` being the
    /// gradients the calculus composes g of. A structurally zero block has the scale of its siblings in the
    /// same parameter, or else that of the whole gradient.
    #[must_use]
    pub fn scales(&self, own: impl Fn(usize, &Block) -> f64) -> Scales {
        let own: Vec<f64> = self.0.iter().enumerate().map(|(index, block)| own(index, block)).collect();
        let mut of_parameter: BTreeMap<&str, f64> = BTreeMap::new();
        let mut whole = 0.0_f64;
        for (block, &scale) in self.0.iter().zip(&own).filter(|(block, _)| !block.structurally_zero) {
            let largest = of_parameter.entry(&block.parameter).or_default();
            *largest = largest.max(scale);
            whole = whole.max(scale);
        }
        let scale = |(block, own): (&Block, f64)| {
            if block.structurally_zero {
                of_parameter.get(block.parameter.as_str()).copied().unwrap_or(whole)
            } else {
                own
            }
        };
        Scales(self.0.iter().zip(own).map(scale).collect())
    }

    /// Every block with its scale.
    pub fn with_scales<'a>(&'a self, scales: &Scales) -> impl Iterator<Item = (&'a Block, f64)> {
        self.0.iter().zip(scales.0.iter().copied())
    }
}

/// Name of a block: the parameter, and which part of it.
#[must_use]
pub fn name(block: &Block) -> String {
    if block.label == "all" {
        block.parameter.clone()
    } else {
        format!("{}[{}]", block.parameter, block.label)
    }
}

/// Norm of a block of a gradient; NaN when the gradient lacks the parameter.
#[must_use]
pub fn norm(gradient: &TensorSet, block: &Block) -> f64 {
    match gradient.get(&block.parameter) {
        Some(tensor) => {
            let actual = |run: Range<usize>, into: &mut [f64]| tensor.write_run(run, into);
            difference_in_runs(block.runs(), actual, |_, into| into.fill(0.0)).actual
        }
        None => f64::NAN,
    }
}

/// The elements one parameter is expected to have, by row-major index.
pub type Expected<'a> = Box<dyn Fn(usize) -> f64 + 'a>;

/// The elements of one tensor of a gradient; NaN when the gradient lacks it.
#[must_use]
pub fn elements<'a>(gradient: &'a TensorSet, name: &str) -> Expected<'a> {
    match gradient.get(name) {
        Some(tensor) => Box::new(|index| tensor.get(index)),
        None => Box::new(|_| f64::NAN),
    }
}
