//! The forward pass, in basic operations of tensors.

use super::LlamaConfig;
use crate::architecture::{Context, InOrder, Model};
use crate::layers::{attend, embed, for_a_loss, predicting};
use crate::{dim, padded::Padded};
use tch::{Kind, TchError, Tensor};

/// Llama as a function of its parameters: decoder blocks that normalise before each of their two layers, and
/// a final norm (Touvron et al. 2023, §2.2).
pub(crate) struct Llama {
    heads: i64,
    key_value_heads: i64,
    epsilon: f64,
    /// Radians per position of each pair of features, `[d/2]`.
    frequencies: Vec<f64>,
    embedding_scale: f64,
    logit_scale: f64,
    logit_cap: Option<f64>,
    embedding: Tensor,
    blocks: Vec<Block>,
    final_norm: Tensor,
    head: Tensor,
    /// Of each block's queries and values, where they are adapted.
    adapters: Option<Vec<[LowRank; 2]>>,
}

/// A low-rank change of a linear layer, `(α/r)·B·A`.
struct LowRank {
    first: Tensor,
    second: Tensor,
    scaling: f64,
}

/// Weights `[out, in]` of linear layers without bias, and gains `[C]` of RMS norms.
struct Block {
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_projection: Tensor,
    gate: Tensor,
    up: Tensor,
    feed_forward_projection: Tensor,
    attention_norm: Tensor,
    feed_forward_norm: Tensor,
}

impl Llama {
    /// The model over `tensors`, in the order of the parameters.
    pub(super) fn new(config: &LlamaConfig, tensors: &[Tensor]) -> Self {
        let mut tensors = InOrder::of(tensors);
        let head_size = config.head_size as f64;
        let frequency = |pair: usize| config.rotary_base.powf(-2.0 * pair as f64 / head_size);
        Self {
            heads: dim(config.heads),
            key_value_heads: dim(config.key_value_heads),
            epsilon: config.rms_epsilon,
            frequencies: (0..config.head_size / 2).map(frequency).collect(),
            embedding: tensors.take(),
            blocks: (0..config.layers)
                .map(|_| Block {
                    query: tensors.take(),
                    key: tensors.take(),
                    value: tensors.take(),
                    attention_projection: tensors.take(),
                    gate: tensors.take(),
                    up: tensors.take(),
                    feed_forward_projection: tensors.take(),
                    attention_norm: tensors.take(),
                    feed_forward_norm: tensors.take(),
                })
                .collect(),
            final_norm: tensors.take(),
            head: tensors.take(),
            embedding_scale: config.embedding_scale,
            logit_scale: config.logit_scale,
            logit_cap: config.logit_cap,
            adapters: config.adapters.map(|adapters| {
                let mut low_rank =
                    || LowRank { first: tensors.take(), second: tensors.take(), scaling: adapters.scaling() };
                (0..config.layers).map(|_| [low_rank(), low_rank()]).collect()
            }),
        }
    }

    /// `x/√(mean of the squares + ε)` times the gain (Zhang and Sennrich 2019), on `x` `[…, C]`.
    fn rms_norm(&self, gain: &Tensor, x: &Tensor) -> Result<Tensor, TchError> {
        let mean_square = x.f_square()?.f_mean_dim([-1_i64].as_slice(), true, None)?;
        x.f_mul(&mean_square.f_add_scalar(self.epsilon)?.f_rsqrt()?)?.f_mul(gain)
    }

    /// How the positions of `batch` turn each pair (Su et al. 2021, §3.2). The angles hold no parameter and
    /// can be many turns long, so they and their cosines and sines are f64, rounded to the model's dtype
    /// once: cosines and sines of each position and pair, `[n, l, 1, d/2]`.
    fn turns(&self, batch: &Padded) -> Result<[Tensor; 2], TchError> {
        let (device, kind) = (self.embedding.device(), self.embedding.kind());
        let pairs = dim(self.frequencies.len());
        let shape = [dim(batch.rows()), dim(batch.width()), 1, pairs];
        let positions = batch.positions(device)?.f_to_kind(Kind::Double)?.f_view([-1, 1])?;
        let frequencies = Tensor::f_from_slice(&self.frequencies)?.f_to_device(device)?.f_view([1, pairs])?;
        let angles = positions.f_mul(&frequencies)?.f_view(shape)?;
        Ok([angles.f_cos()?.f_to_kind(kind)?, angles.f_sin()?.f_to_kind(kind)?])
    }

    /// Attention of a block, by its number, on `x` `[n·l, C]`, where neighbouring heads share a key and a value
    /// (Ainslie et al. 2023).
    fn attention(&self, number: usize, x: &Tensor, context: &Context) -> Result<Tensor, TchError> {
        let Context { hidden_keys, turns } = context;
        let (n, _, l, _) = hidden_keys.size4()?;
        let block = &self.blocks[number];
        let split = |projected: &Tensor, heads: i64| projected.f_view([n, l, heads, -1]);
        let mut query = linear(&block.query, x)?;
        let mut value = linear(&block.value, x)?;
        if let Some(adapters) = &self.adapters {
            let [of_query, of_value] = &adapters[number];
            query = query.f_add(&of_query.apply(x)?)?;
            value = value.f_add(&of_value.apply(x)?)?;
        }
        let turn = |x: Tensor| match turns {
            Some(turns) => turned(&x, turns),
            None => Ok(x),
        };
        let query = turn(split(&query, self.heads)?)?;
        let key = self.repeat(&turn(split(&linear(&block.key, x)?, self.key_value_heads)?)?)?;
        let value = self.repeat(&split(&value, self.key_value_heads)?)?;
        // [n, l, H, d] to [n, H, l, d].
        let [query, key, value] = [query, key, value].map(|part| part.f_transpose(1, 2));
        linear(&block.attention_projection, &attend(&query?, &key?, &value?, hidden_keys, None)?)
    }

    /// Keys or values `[n, l, K, d]` once for each head that queries them, `[n, l, H, d]`: each `H/K` times
    /// in a row.
    fn repeat(&self, shared: &Tensor) -> Result<Tensor, TchError> {
        let (n, l, own, head_size) = shared.size4()?;
        let each = [n, l, own, self.heads / own, head_size];
        shared.f_unsqueeze(3)?.f_expand(each, false)?.f_reshape([n, l, self.heads, head_size])
    }

    /// `SwiGLU` on `x` `[n·l, C]` (Shazeer 2020): the gate's `z·σ(z)` times a second linear layer, projected
    /// back.
    fn feed_forward(block: &Block, x: &Tensor) -> Result<Tensor, TchError> {
        let gate = linear(&block.gate, x)?;
        let open = gate.f_mul(&gate.f_sigmoid()?)?;
        linear(&block.feed_forward_projection, &open.f_mul(&linear(&block.up, x)?)?)
    }
}

impl Model for Llama {
    fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn context(&self, batch: &Padded) -> Result<Context, TchError> {
        let hidden_keys = batch.hidden_keys(self.embedding.device())?;
        Ok(Context { hidden_keys, turns: Some(self.turns(batch)?) })
    }

    fn embedded(&self, batch: &Padded) -> Result<Tensor, TchError> {
        let tokens = batch.tokens(self.embedding.device())?;
        embed(&self.embedding, &tokens)?.f_mul_scalar(self.embedding_scale)
    }

    fn block(&self, number: usize, x: &Tensor, _: &Padded, context: &Context) -> Result<Tensor, TchError> {
        let block = &self.blocks[number];
        let normal = self.rms_norm(&block.attention_norm, x)?;
        let x = x.f_add(&self.attention(number, &normal, context)?)?;
        let normal = self.rms_norm(&block.feed_forward_norm, &x)?;
        x.f_add(&Self::feed_forward(block, &normal)?)
    }

    fn head(&self, x: &Tensor, batch: &Padded) -> Result<Tensor, TchError> {
        let products = linear(&self.head, &self.rms_norm(&self.final_norm, &predicting(x, batch)?)?)?;
        let logits = products.f_mul_scalar(self.logit_scale)?;
        for_a_loss(match self.logit_cap {
            Some(cap) => logits.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?,
            None => logits,
        })
    }
}

impl LowRank {
    /// What it adds to the layer's output for `x` `[…, in]`.
    fn apply(&self, x: &Tensor) -> Result<Tensor, TchError> {
        linear(&self.second, &linear(&self.first, x)?)?.f_mul_scalar(self.scaling)
    }
}

/// `x` `[n, l, heads, d]` with each pair of features `(i, i + d/2)` turned by its angle.
fn turned(x: &Tensor, [cosines, sines]: &[Tensor; 2]) -> Result<Tensor, TchError> {
    let half = x.size4()?.3 / 2;
    let (first, second) = (x.f_narrow(-1, 0, half)?, x.f_narrow(-1, half, half)?);
    let left = first.f_mul(cosines)?.f_sub(&second.f_mul(sines)?)?;
    let right = second.f_mul(cosines)?.f_add(&first.f_mul(sines)?)?;
    Tensor::f_cat(&[left, right], -1)
}

/// `x` `[…, in]` times a weight `[out, in]`.
fn linear(weight: &Tensor, x: &Tensor) -> Result<Tensor, TchError> {
    x.f_matmul(&weight.f_tr()?)
}
