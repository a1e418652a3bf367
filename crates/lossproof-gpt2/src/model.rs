//! GPT-2 as Radford et al. (2019) and Hugging Face's `GPT2LMHeadModel` define it: token and position
//! embeddings, pre-norm blocks, tanh GELU, a final layer norm and a head tied to the token embedding.

use crate::{
    Element, affine::affine, attention::attention, config::Gpt2Config, dropout::apply_dropout,
    kernels::Kernels, rows::Rows,
};
use dfdx::prelude::*;
use lossproof_subject::DropoutSite;

/// The parameters of GPT-2 and its forward pass. Weights are `[in, out]` (Hugging Face's `Conv1D`).
#[derive(Clone, Debug)]
pub struct Gpt2<K: Gpt2Config, E: Element, D: Device<E>> {
    /// Token embedding and head, `[V, C]`.
    pub wte: Tensor<(K::Vocabulary, K::Width), E, D>,
    /// Position embedding, `[T, C]`.
    pub wpe: Tensor<(K::Positions, K::Width), E, D>,
    /// The transformer blocks.
    pub blocks: Vec<Block<K, E, D>>,
    /// Gain of the final layer norm.
    pub ln_f_weight: Tensor<(K::Width,), E, D>,
    /// Bias of the final layer norm.
    pub ln_f_bias: Tensor<(K::Width,), E, D>,
}

/// One transformer block: `x + attention(norm(x))`, then `x + mlp(norm(x))`.
///
/// Hugging Face's fused `c_attn` is kept as its three parts; the fused form exists at the boundary only.
#[derive(Clone, Debug)]
pub struct Block<K: Gpt2Config, E: Element, D: Device<E>> {
    /// Gain of the layer norm before attention.
    pub ln_1_weight: Tensor<(K::Width,), E, D>,
    /// Bias of the layer norm before attention.
    pub ln_1_bias: Tensor<(K::Width,), E, D>,
    /// Weights of query, key and value, each `[C, C]`.
    pub qkv_weight: [Tensor<(K::Width, K::Width), E, D>; 3],
    /// Biases of query, key and value.
    pub qkv_bias: [Tensor<(K::Width,), E, D>; 3],
    /// Output projection of attention, `[C, C]`.
    pub proj_weight: Tensor<(K::Width, K::Width), E, D>,
    /// Its bias.
    pub proj_bias: Tensor<(K::Width,), E, D>,
    /// Gain of the layer norm before the feed-forward block.
    pub ln_2_weight: Tensor<(K::Width,), E, D>,
    /// Bias of the layer norm before the feed-forward block.
    pub ln_2_bias: Tensor<(K::Width,), E, D>,
    /// First feed-forward weight, `[C, 4C]`.
    pub fc_weight: Tensor<(K::Width, K::FeedForward), E, D>,
    /// Its bias.
    pub fc_bias: Tensor<(K::FeedForward,), E, D>,
    /// Second feed-forward weight, `[4C, C]`.
    pub out_weight: Tensor<(K::FeedForward, K::Width), E, D>,
    /// Its bias.
    pub out_bias: Tensor<(K::Width,), E, D>,
}

impl<K: Gpt2Config, E: Element, D: Device<E>> Gpt2<K, E, D> {
    /// A model whose parameters are all zero, to be filled by name.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn zeros(device: &D) -> Result<Self, D::Err> {
        let () = K::CHECKED;
        let width = || device.try_zeros::<(K::Width,)>();
        let square = || device.try_zeros::<(K::Width, K::Width)>();
        let block = |_| {
            Ok(Block {
                ln_1_weight: width()?,
                ln_1_bias: width()?,
                qkv_weight: [square()?, square()?, square()?],
                qkv_bias: [width()?, width()?, width()?],
                proj_weight: square()?,
                proj_bias: width()?,
                ln_2_weight: width()?,
                ln_2_bias: width()?,
                fc_weight: device.try_zeros()?,
                fc_bias: device.try_zeros()?,
                out_weight: device.try_zeros()?,
                out_bias: width()?,
            })
        };
        Ok(Self {
            wte: device.try_zeros()?,
            wpe: device.try_zeros()?,
            blocks: (0..K::LAYERS).map(block).collect::<Result<_, D::Err>>()?,
            ln_f_weight: width()?,
            ln_f_bias: width()?,
        })
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Gpt2<K, E, D> {
    /// The hidden states after the final layer norm, one row per position of `rows`: `[count·width, C]`.
    pub(crate) fn hidden<T: Tape<E, D>>(
        &self,
        rows: &Rows,
        tape: T,
    ) -> Result<Tensor<(usize, K::Width), E, D, T>, D::Err> {
        let device = self.wte.device();
        let flat = (rows.input_ids.len(),);
        let tokens = device.try_tensor_from_vec(rows.input_ids.clone(), flat)?;
        let positions = device.try_tensor_from_vec(rows.position_ids.clone(), flat)?;
        let bias = rows.attention_bias().into_iter().map(E::round).collect();
        let bias = device.try_tensor_from_vec(bias, (rows.count, rows.width, rows.width))?;

        let x = D::passing_on(self.wte.clone().put_tape(tape), |wte| wte.try_gather(tokens))?;
        let (x, tape) = x.split_tape();
        let position = D::passing_on(self.wpe.clone().put_tape(tape), |wpe| wpe.try_gather(positions))?;
        let (position, tape) = position.split_tape();
        let x = D::passing_on(x.put_tape(tape), |x| x.try_add(position))?;
        let mut x = apply_dropout(x, rows.dropped_channels(DropoutSite::Embedding, K::Width::SIZE))?;
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, &bias, rows, layer)?;
        }
        D::layer_norm(x, &self.ln_f_weight, &self.ln_f_bias)
    }

    /// Logits for some rows of the hidden states, by index: `[picked, V]`.
    pub(crate) fn logits<T: Tape<E, D>>(
        &self,
        hidden: Tensor<(usize, K::Width), E, D, T>,
        picked: Vec<usize>,
    ) -> Result<Tensor<(usize, K::Vocabulary), E, D, T>, D::Err> {
        let count = (picked.len(),);
        let picked = self.wte.device().try_tensor_from_vec(picked, count)?;
        let hidden: Tensor<(usize, K::Width), E, D, T> =
            D::passing_on(hidden, |hidden| hidden.try_gather(picked))?;
        let head = self.wte.clone().try_permute::<(K::Width, K::Vocabulary), _>()?;
        D::passing_on(hidden, |hidden| hidden.try_matmul(head))
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Block<K, E, D> {
    /// Block number `layer` on `[count·width, C]`; `bias` is the attention bias of `rows`, `[count, width, width]`.
    fn forward<T: Tape<E, D>>(
        &self,
        x: Tensor<(usize, K::Width), E, D, T>,
        bias: &Tensor<(usize, usize, usize), E, D>,
        rows: &Rows,
        layer: usize,
    ) -> Result<Tensor<(usize, K::Width), E, D, T>, D::Err> {
        let number = u32::try_from(layer).unwrap_or(u32::MAX);
        // The residual branch carries no tape: its gradient flows through the shared id of the clone.
        let (residual, tape) = x.split_tape();
        let normed = D::layer_norm(residual.clone().put_tape(tape), &self.ln_1_weight, &self.ln_1_bias)?;
        let dropped = rows.dropped_attention(number, K::Heads::SIZE);
        let attended = attention::<K, E, D, T>(normed, &self.qkv_weight, &self.qkv_bias, bias, dropped)?;
        let attended = affine(attended, &self.proj_weight, &self.proj_bias)?;
        let dropped = rows.dropped_channels(DropoutSite::AttentionOutput { layer: number }, K::Width::SIZE);
        let x = D::passing_on(apply_dropout(attended, dropped)?, |x| x.try_add(residual))?;

        let (residual, tape) = x.split_tape();
        let normed = D::layer_norm(residual.clone().put_tape(tape), &self.ln_2_weight, &self.ln_2_bias)?;
        let inner = D::gelu(affine(normed, &self.fc_weight, &self.fc_bias)?)?;
        let fed = affine(inner, &self.out_weight, &self.out_bias)?;
        let dropped = rows.dropped_channels(DropoutSite::FeedForwardOutput { layer: number }, K::Width::SIZE);
        D::passing_on(apply_dropout(fed, dropped)?, |x| x.try_add(residual))
    }
}
