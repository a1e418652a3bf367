//! A backward pass that keeps what goes into each block and computes the rest a second time.
//!
//! Of L blocks the activations of one are in memory at a time, for a second forward pass over each. Masks of dropout
//! depend on what is dropped and on nothing else ([`Dropout`](lossproof_subject::Dropout)), so the second pass has those
//! of the first (clause 6.8).

use crate::architecture::Model;
use crate::padded::Padded;
use tch::{TchError, Tensor};

/// What goes into the blocks of a model on a batch, and what comes out of the last: tensors without a graph.
pub(crate) struct Kept(Vec<Tensor>);

impl Kept {
    /// The first forward pass.
    pub(crate) fn of(model: &dyn Model, batch: &Padded) -> Result<Self, TchError> {
        let _no_graph = tch::no_grad_guard();
        let context = model.context(batch)?;
        let mut kept = vec![model.embedded(batch)?];
        for number in 0..model.blocks() {
            let next = model.block(number, &kept[number], batch, &context)?;
            kept.push(next);
        }
        Ok(Self(kept))
    }

    /// What the head takes: the loss of it is to be differentiated first, and then the rest by
    /// [`backward`](Self::backward).
    pub(crate) fn head_input(&self) -> Tensor {
        leaf(&self.0[self.0.len() - 1])
    }

    /// Differentiates the blocks, the last first, and the embedding, where `head_input` has the gradient of the loss.
    pub(crate) fn backward(
        self,
        model: &dyn Model,
        batch: &Padded,
        head_input: &Tensor,
    ) -> Result<(), TchError> {
        let context = model.context(batch)?;
        let mut gradient = head_input.f_grad()?;
        for number in (0..model.blocks()).rev() {
            let x = leaf(&self.0[number]);
            pass_back(&model.block(number, &x, batch, &context)?, &gradient)?;
            gradient = x.f_grad()?;
        }
        pass_back(&model.embedded(batch)?, &gradient)
    }
}

/// A tensor that a graph begins with.
fn leaf(of: &Tensor) -> Tensor {
    of.detach().set_requires_grad(true)
}

/// Differentiates `y`, the gradient of the loss by it being known: that of `Σ y·gradient`, to the bit.
fn pass_back(y: &Tensor, gradient: &Tensor) -> Result<(), TchError> {
    y.f_mul(gradient)?.f_sum(y.kind())?.f_backward()
}
