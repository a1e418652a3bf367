//! A backward pass that keeps what goes into each block and computes the rest a second time.
//!
//! Of L blocks the activations of one are in memory at a time, for a second forward pass over each. Masks of dropout
//! depend on what is dropped and on nothing else ([`Dropout`](lossproof_subject::Dropout)), so the second
//! pass has those of the first (clause 6.8).

use crate::architecture::{Context, Model};
use crate::padded::Padded;
use tch::{TchError, Tensor};

/// What goes into the blocks of a model on a batch, and what comes out of the last.
pub(crate) struct Kept {
    context: Context,
    /// What goes into each block, without a graph.
    inputs: Vec<Tensor>,
    /// What the head takes: the loss of it is to be differentiated first, and then the rest by
    /// [`backward`](Self::backward).
    pub(crate) head_input: Tensor,
}

impl Kept {
    /// The first forward pass.
    pub(crate) fn of(model: &dyn Model, batch: &Padded) -> Result<Self, TchError> {
        let _no_graph = tch::no_grad_guard();
        let context = model.context(batch)?;
        let (mut inputs, mut x) = (Vec::new(), model.embedded(batch)?);
        for number in 0..model.blocks() {
            let next = model.block(number, &x, batch, &context)?;
            inputs.push(x);
            x = next;
        }
        Ok(Self { context, inputs, head_input: leaf(&x) })
    }

    /// Differentiates the blocks, the last first, and the embedding, where the head's input has the gradient of the
    /// loss.
    pub(crate) fn backward(self, model: &dyn Model, batch: &Padded) -> Result<(), TchError> {
        let mut gradient = self.head_input.f_grad()?;
        for (number, input) in self.inputs.iter().enumerate().rev() {
            let x = leaf(input);
            pass_back(&model.block(number, &x, batch, &self.context)?, &gradient)?;
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
