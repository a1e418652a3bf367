//! The forward pass.

use crate::{Activation, Gpt2Config, dim, padded::Padded};
use tch::{TchError, Tensor};

/// ε of every layer norm.
const EPSILON: f64 = 1e-5;

/// GPT-2 as a function of its parameters: decoder blocks that normalise before each of their two layers, and a final
/// norm (Radford et al. 2019, §2.3).
pub(crate) struct Model {
    width: i64,
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

impl Model {
    /// The model over `tensors`, in the order of [`Gpt2Config::parameters`]. They are shared, not copied.
    pub(crate) fn new(config: &Gpt2Config, tensors: &[Tensor]) -> Self {
        let mut tensors = tensors.iter().map(Tensor::shallow_clone);
        let mut next = || tensors.next().expect("invariant: one tensor for each parameter");
        let affine = |next: &mut dyn FnMut() -> Tensor| Affine { weight: next(), bias: next() };
        Self {
            width: dim(config.width),
            heads: dim(config.heads),
            activation: config.activation,
            token_embedding: next(),
            position_embedding: next(),
            blocks: (0..config.layers)
                .map(|_| Block {
                    attention_norm: affine(&mut next),
                    query_key_value: affine(&mut next),
                    attention_projection: affine(&mut next),
                    feed_forward_norm: affine(&mut next),
                    feed_forward: affine(&mut next),
                    feed_forward_projection: affine(&mut next),
                })
                .collect(),
            final_norm: affine(&mut next),
        }
    }

    /// Logits of every prediction, `[n·(l − 1), V]`: the last of the `l` positions predicts nothing.
    pub(crate) fn logits(&self, batch: &Padded) -> Result<Tensor, TchError> {
        let (n, l) = (dim(batch.rows()), dim(batch.width()));
        let device = self.token_embedding.device();
        let hidden_keys = batch.hidden_keys(device)?;
        let tokens = embed(&self.token_embedding, &batch.tokens(device)?)?;
        let mut x = tokens.f_add(&embed(&self.position_embedding, &batch.positions(device)?)?)?;
        for block in &self.blocks {
            let attended =
                self.attention(block, &block.attention_norm.layer_norm(&x)?, &hidden_keys, n, l)?;
            x = x.f_add(&attended)?;
            let fed = block.feed_forward.linear(&block.feed_forward_norm.layer_norm(&x)?)?;
            let activated = fed.f_gelu(match self.activation {
                Activation::TanhGelu => "tanh",
                Activation::ErfGelu => "none",
            })?;
            x = x.f_add(&block.feed_forward_projection.linear(&activated)?)?;
        }
        let predicting = x.f_view([n, l, self.width])?.f_narrow(1, 0, l - 1)?;
        let predicting = predicting.f_reshape([n * (l - 1), self.width])?;
        self.final_norm.layer_norm(&predicting)?.f_matmul(&self.token_embedding.f_tr()?)
    }

    /// Multi-head attention on `x` `[n·l, C]`: softmax of the scaled products over the keys that are not hidden.
    fn attention(
        &self,
        block: &Block,
        x: &Tensor,
        hidden_keys: &Tensor,
        n: i64,
        l: i64,
    ) -> Result<Tensor, TchError> {
        let head_size = self.width / self.heads;
        let heads = block.query_key_value.linear(x)?.f_view([n, l, 3, self.heads, head_size])?;
        // [n, l, 3, H, C/H] to three of [n, H, l, C/H].
        let [query, key, value] = [0, 1, 2].map(|part| heads.f_select(2, part)?.f_transpose(1, 2));
        let (query, key, value) = (query?, key?, value?);
        let scores = query.f_matmul(&key.f_transpose(2, 3)?)?.f_div_scalar((head_size as f64).sqrt())?;
        let weights = scores.f_masked_fill(hidden_keys, f64::NEG_INFINITY)?.f_softmax(-1, None)?;
        let mixed = weights.f_matmul(&value)?.f_transpose(1, 2)?.f_reshape([n * l, self.width])?;
        block.attention_projection.linear(&mixed)
    }
}

impl Affine {
    fn layer_norm(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), EPSILON, false)
    }

    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.bias.f_addmm(x, &self.weight)
    }
}

/// The rows of `weight` with these `indices`.
fn embed(weight: &Tensor, indices: &Tensor) -> Result<Tensor, TchError> {
    // No index is a padding index to libtorch: every row it looks up receives its gradient.
    let no_padding_index = -1;
    Tensor::f_embedding(weight, indices, no_padding_index, false, false)
}
