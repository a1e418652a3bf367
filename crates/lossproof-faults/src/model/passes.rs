//! GPT-2 (Radford et al. 2019) under Hugging Face's names: embeddings, pre-norm blocks, a final norm and a
//! tied head.

use super::{
    Real,
    attention::Attention,
    layers::LayerNorm,
    operators::{add, gelu},
    rows::PaddedRows,
    transformer::Transformer,
};
use crate::{
    names::{EMBEDDING, POSITIONS},
    tensors::NamedTensors,
};

/// What a forward pass keeps for the backward.
pub(super) struct Forward<T> {
    pub(super) rows: PaddedRows,
    blocks: Vec<KeptBlock<T>>,
    last: LayerNorm<T>,
}

/// What the forward pass of a block keeps for its backward.
struct KeptBlock<T> {
    ln_1: LayerNorm<T>,
    attention: Attention<T>,
    ln_2: LayerNorm<T>,
    /// Before the activation.
    inner: Vec<T>,
    activated: Vec<T>,
}

impl<T> Forward<T> {
    /// The hidden states after the final norm, one row of `C` for every position.
    pub(super) fn hidden(&self) -> &[T] {
        &self.last.output
    }
}

impl<T: Real> Transformer<'_, T> {
    pub(super) fn forward(&self, rows: PaddedRows) -> Forward<T> {
        let mut x = self.look_up(EMBEDDING, &rows.input_ids);
        add(&mut x, T::one(), &self.look_up(POSITIONS, &rows.position_ids));
        let block = |layer| {
            let name = |part: &str| format!("h.{layer}.{part}");
            let ln_1 = self.layer_norm(&name("ln_1"), &x);
            let attention = self.attention(&rows, self.linear(&name("attn.c_attn"), &ln_1.output));
            add(&mut x, T::one(), &self.linear(&name("attn.c_proj"), &attention.output));
            let ln_2 = self.layer_norm(&name("ln_2"), &x);
            let inner = self.linear(&name("mlp.c_fc"), &ln_2.output);
            let activated: Vec<T> = inner.iter().copied().map(gelu).collect();
            add(&mut x, T::one(), &self.linear(&name("mlp.c_proj"), &activated));
            KeptBlock { ln_1, attention, ln_2, inner, activated }
        };
        let blocks = (0..self.shape.layers).map(block).collect();
        let last = self.layer_norm("ln_f", &x);
        Forward { rows, blocks, last }
    }

    /// Adds the gradient of every parameter, but for the head's part, given that of the hidden states.
    pub(super) fn backward(&self, kept: &Forward<T>, upstream: Vec<T>, gradient: &mut NamedTensors<T>) {
        let mut of_x = self.layer_norm_backward("ln_f", &kept.last, upstream, gradient);
        for (layer, block) in kept.blocks.iter().enumerate().rev() {
            let name = |part: &str| format!("h.{layer}.{part}");
            let mut inner = self.linear_backward(&name("mlp.c_proj"), &block.activated, &of_x, gradient);
            for (gradient, &x) in inner.iter_mut().zip(&block.inner) {
                *gradient *= (self.operators.gelu_slope)(x);
            }
            let normed = self.linear_backward(&name("mlp.c_fc"), &block.ln_2.output, &inner, gradient);
            add(&mut of_x, T::one(), &self.layer_norm_backward(&name("ln_2"), &block.ln_2, normed, gradient));

            let attended =
                self.linear_backward(&name("attn.c_proj"), &block.attention.output, &of_x, gradient);
            let fused = self.attention_backward(&kept.rows, &block.attention, &attended);
            let normed = self.linear_backward(&name("attn.c_attn"), &block.ln_1.output, &fused, gradient);
            (self.operators.around_attention)(&mut of_x);
            add(&mut of_x, T::one(), &self.layer_norm_backward(&name("ln_1"), &block.ln_1, normed, gradient));
        }
        self.look_up_backward(EMBEDDING, &kept.rows.input_ids, &of_x, gradient);
        self.look_up_backward(POSITIONS, &kept.rows.position_ids, &of_x, gradient);
    }

    /// The rows of a table with these ids.
    fn look_up(&self, table: &str, ids: &[usize]) -> Vec<T> {
        let (table, columns) = (self.parameters.of(table), self.shape.width);
        ids.iter().flat_map(|id| &table[id * columns..][..columns]).copied().collect()
    }

    fn look_up_backward(&self, table: &str, ids: &[usize], upstream: &[T], gradient: &mut NamedTensors<T>) {
        let sums = gradient.of_mut(table);
        let mut own = vec![T::zero(); sums.len()];
        (self.operators.embedding_backward)(ids, upstream, &mut own);
        add(sums, T::one(), &own);
    }
}
