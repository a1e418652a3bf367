//! What the forward passes have in common.

use crate::dim;
use crate::padded::Padded;
use tch::{Kind, TchError, Tensor};

/// The rows of `weight` with these `indices`.
pub(crate) fn embed(weight: &Tensor, indices: &Tensor) -> Result<Tensor, TchError> {
    // No index is a padding index to libtorch: every row it looks up receives its gradient.
    let no_padding_index = -1;
    Tensor::f_embedding(weight, indices, no_padding_index, false, false)
}

/// Attention of `H` heads with `d` features each on `query`, `key` and `value`, `[n, H, l, d]`: softmax of
/// the products times `1/√d` over the keys that are not hidden, `[n, 1, l, l]`, times dropout's factors of the
/// weights, `[n, H, l, l]`. The heads side by side, `[n·l, H·d]`.
pub(crate) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    hidden_keys: &Tensor,
    dropped: Option<&Tensor>,
) -> Result<Tensor, TchError> {
    let (n, heads, l, head_size) = query.size4()?;
    let scores = query.f_matmul(&key.f_transpose(2, 3)?)?.f_div_scalar((head_size as f64).sqrt())?;
    let weights = scores.f_masked_fill(hidden_keys, f64::NEG_INFINITY)?.f_softmax(-1, None)?;
    let weights = kept(weights, dropped)?;
    weights.f_matmul(value)?.f_transpose(1, 2)?.f_reshape([n * l, heads * head_size])
}

/// `x` times dropout's factors, where something is dropped.
pub(crate) fn kept(x: Tensor, dropped: Option<&Tensor>) -> Result<Tensor, TchError> {
    match dropped {
        Some(factors) => x.f_mul(factors),
        None => Ok(x),
    }
}

/// Logits as a loss takes them: in f32 where the model computes in less, so that a loss is not rounded as its
/// activations are.
pub(crate) fn for_a_loss(logits: Tensor) -> Result<Tensor, TchError> {
    if logits.f_kind()? == Kind::BFloat16 { logits.f_to_kind(Kind::Float) } else { Ok(logits) }
}

/// Those rows of `x`, `[n·l, C]`, at which something is predicted, `[n·(l − 1), C]`: all but the last of each
/// sequence.
pub(crate) fn predicting(x: &Tensor, batch: &Padded) -> Result<Tensor, TchError> {
    let (n, l) = (dim(batch.rows()), dim(batch.width()));
    let (_, width) = x.size2()?;
    x.f_view([n, l, width])?.f_narrow(1, 0, l - 1)?.f_reshape([n * (l - 1), width])
}
