//! Layers that both models are made of, in elementary operations, or in candle's own where a setting asks for
//! them.

use super::{
    Bug,
    batch::Batch,
    settings::{Kernel, Settings},
};
use candle_core::{D, Result, Tensor};
use candle_nn::{ops, rotary_emb};

/// Added to a variance.
const EPSILON: f64 = 1e-5;

/// The same in the type that candle's norms take.
const EPSILON_SINGLE: f32 = 1e-5;

/// `x·w` over the last dimension, `w` being `[in, out]`.
pub(super) fn product(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (rows, positions, width) = x.dims3()?;
    let flat = x.reshape((rows * positions, width))?.matmul(w)?;
    flat.reshape((rows, positions, w.dim(1)?))
}

/// The rows of a table at ids `[rows, positions]`.
pub(super) fn rows_of(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (rows, positions) = ids.dims2()?;
    table.index_select(&ids.flatten_all()?, 0)?.reshape((rows, positions, table.dim(1)?))
}

/// Centred, divided by the deviation, times the gain, plus the bias.
pub(super) fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, settings: &Settings) -> Result<Tensor> {
    let gain = trained(gain, settings);
    if settings.kernel == Kernel::FusedNorm {
        return ops::layer_norm(&x.contiguous()?, &gain, bias, EPSILON_SINGLE);
    }
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    scaled(&centred, &gain)?.broadcast_add(bias)
}

/// Divided by the root of the mean square, times the gain.
pub(super) fn rms_norm(x: &Tensor, gain: &Tensor, settings: &Settings) -> Result<Tensor> {
    let gain = trained(gain, settings);
    if settings.kernel == Kernel::FusedNorm {
        return ops::rms_norm(&x.contiguous()?, &gain, EPSILON_SINGLE);
    }
    scaled(x, &gain)
}

fn trained(gain: &Tensor, settings: &Settings) -> Tensor {
    if settings.has(Bug::GainDetached) { gain.detach() } else { gain.clone() }
}

fn scaled(x: &Tensor, gain: &Tensor) -> Result<Tensor> {
    let square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(square + EPSILON)?.sqrt()?)?.broadcast_mul(gain)
}

/// GELU by its tanh formula.
pub(super) fn gelu(x: &Tensor, settings: &Settings) -> Result<Tensor> {
    if settings.kernel == Kernel::Gelu {
        return x.gelu();
    }
    let cubic = (x + ((x.sqr()? * x)? * 0.044_715)?)?;
    let inner = (cubic * (2.0 / std::f64::consts::PI).sqrt())?.tanh()?;
    (x * 0.5)? * (inner + 1.0)?
}

/// `[rows, positions, heads·width]` as `[rows, heads, positions, width]`.
pub(super) fn heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (rows, positions, width) = x.dims3()?;
    x.reshape((rows, positions, heads, width / heads))?.transpose(1, 2)?.contiguous()
}

/// What each query sees of the values, heads beside each other again. All are `[rows, heads, positions,
/// width]`.
pub(super) fn attention(
    [queries, keys, values]: [&Tensor; 3],
    batch: &Batch,
    settings: &Settings,
) -> Result<Tensor> {
    let (rows, heads, positions, width) = queries.dims4()?;
    let divisor = if settings.has(Bug::ScaleOfWrongDimension) { keys.dim(2)? } else { keys.dim(3)? };
    let scores = (queries.matmul(&keys.t()?.contiguous()?)? / (divisor as f64).sqrt())?;
    let visible = batch.visible.broadcast_as(scores.shape())?;
    let hidden = Tensor::new(f64::NEG_INFINITY, scores.device())?.to_dtype(scores.dtype())?;
    let scores = visible.where_cond(&scores, &hidden.broadcast_as(scores.shape())?)?;
    let weights = if settings.kernel == Kernel::FusedSoftmax {
        ops::softmax_last_dim(&scores)?
    } else {
        ops::softmax(&scores, D::Minus1)?
    };
    let seen = weights.matmul(values)?.transpose(1, 2)?.contiguous()?;
    seen.reshape((rows, positions, heads * width))
}

/// Turns each pair of a head by the angles of its position; `cosines` and `sines` are `[rows, positions,
/// width/2]`.
pub(super) fn rotated(x: &Tensor, cosines: &Tensor, sines: &Tensor, settings: &Settings) -> Result<Tensor> {
    if settings.kernel == Kernel::FusedRotary {
        return rotary_emb::rope(x, cosines, sines);
    }
    let half = x.dim(D::Minus1)? / 2;
    let (first, second) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let (cosines, sines) = (cosines.unsqueeze(1)?, sines.unsqueeze(1)?);
    let one = (first.broadcast_mul(&cosines)? - second.broadcast_mul(&sines)?)?;
    let other = (second.broadcast_mul(&cosines)? + first.broadcast_mul(&sines)?)?;
    Tensor::cat(&[&one, &other], D::Minus1)
}
