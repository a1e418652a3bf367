//! The forward pass.

use super::{Activation, Gpt2Config};
use crate::architecture::{Context, InOrder, Model};
use crate::layers::{attend, embed, for_a_loss, kept, predicting};
use crate::{dim, padded::Padded};
use lossproof_subject::DropoutSite;
use tch::{TchError, Tensor};

/// ε of every layer norm.
const EPSILON: f64 = 1e-5;

/// GPT-2 as a function of its parameters: decoder blocks that normalise before each of their two layers, and
/// a final norm (Radford et al. 2019, §2.3).
pub(crate) struct Gpt2 {
    heads: i64,
    activation: Activation,
    token_embedding: Tensor,
    position_embedding: Tensor,
    blocks: Vec<Block>,
    final_norm: Affine,
}

struct Block {
    attention_norm: Affine,
    query_key_value: Affine,
    attention_projection: Affine,
    feed_forward_norm: Affine,
    feed_forward: Affine,
    feed_forward_projection: Affine,
}

/// A weight and a bias: of a layer norm `[C]`, or of Hugging Face's `Conv1D` `[in, out]`.
struct Affine {
    weight: Tensor,
    bias: Tensor,
}

impl Gpt2 {
    /// The model over `tensors`, in the order of the parameters.
    pub(super) fn new(config: &Gpt2Config, tensors: &[Tensor]) -> Self {
        let mut tensors = InOrder::of(tensors);
        Self {
            heads: dim(config.heads),
            activation: config.activation,
            token_embedding: tensors.take(),
            position_embedding: tensors.take(),
            blocks: (0..config.layers)
                .map(|_| Block {
                    attention_norm: Affine::new(&mut tensors),
                    query_key_value: Affine::new(&mut tensors),
                    attention_projection: Affine::new(&mut tensors),
                    feed_forward_norm: Affine::new(&mut tensors),
                    feed_forward: Affine::new(&mut tensors),
                    feed_forward_projection: Affine::new(&mut tensors),
                })
                .collect(),
            final_norm: Affine::new(&mut tensors),
        }
    }

    /// Multi-head attention on `x` `[n·l, C]`.
    fn attention(
        &self,
        block: &Block,
        x: &Tensor,
        hidden_keys: &Tensor,
        dropped: Option<&Tensor>,
    ) -> Result<Tensor, TchError> {
        let (n, _, l, _) = hidden_keys.size4()?;
        let (_, width) = x.size2()?;
        let heads = block.query_key_value.linear(x)?.f_view([n, l, 3, self.heads, width / self.heads])?;
        // [n, l, 3, H, C/H] to three of [n, H, l, C/H].
        let [query, key, value] = [0, 1, 2].map(|part| heads.f_select(2, part)?.f_transpose(1, 2));
        block.attention_projection.linear(&attend(&query?, &key?, &value?, hidden_keys, dropped)?)
    }
}

impl Model for Gpt2 {
    fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn context(&self, batch: &Padded) -> Result<Context, TchError> {
        Ok(Context { hidden_keys: batch.hidden_keys(self.token_embedding.device())?, turns: None })
    }

    fn embedded(&self, batch: &Padded) -> Result<Tensor, TchError> {
        let device = self.token_embedding.device();
        let tokens = embed(&self.token_embedding, &batch.tokens(device)?)?;
        let x = tokens.f_add(&embed(&self.position_embedding, &batch.positions(device)?)?)?;
        let (_, width) = x.size2()?;
        let dropped = batch.dropped_channels(DropoutSite::Embedding, width, &x)?;
        kept(x, dropped.as_ref())
    }

    fn block(
        &self,
        number: usize,
        x: &Tensor,
        batch: &Padded,
        context: &Context,
    ) -> Result<Tensor, TchError> {
        let block = &self.blocks[number];
        let layer = u32::try_from(number).unwrap_or(u32::MAX);
        let (_, width) = x.size2()?;
        let dropped = |site| batch.dropped_channels(site, width, x);
        let normal = block.attention_norm.layer_norm(x)?;
        let of_weights = batch.dropped_attention(layer, self.heads, x)?;
        let attended = self.attention(block, &normal, &context.hidden_keys, of_weights.as_ref())?;
        let x = x.f_add(&kept(attended, dropped(DropoutSite::AttentionOutput { layer })?.as_ref())?)?;
        let fed = block.feed_forward.linear(&block.feed_forward_norm.layer_norm(&x)?)?;
        let activated = fed.f_gelu(match self.activation {
            Activation::TanhGelu => "tanh",
            Activation::ErfGelu => "none",
        })?;
        let fed = block.feed_forward_projection.linear(&activated)?;
        x.f_add(&kept(fed, dropped(DropoutSite::FeedForwardOutput { layer })?.as_ref())?)
    }

    fn head(&self, x: &Tensor, batch: &Padded) -> Result<Tensor, TchError> {
        let normal = self.final_norm.layer_norm(&predicting(x, batch)?)?;
        for_a_loss(normal.f_matmul(&self.token_embedding.f_tr()?)?)
    }
}

impl Affine {
    fn new(tensors: &mut InOrder<'_>) -> Self {
        Self { weight: tensors.take(), bias: tensors.take() }
    }

    fn layer_norm(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), EPSILON, false)
    }

    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.bias.f_addmm(x, &self.weight)
    }
}
