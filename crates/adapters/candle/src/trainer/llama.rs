//! A Llama under Hugging Face's names and in its layouts: weights are `[out, in]`.

use super::{
    batch::Batch,
    layers,
    model::{DEVIATION, Decoder, LAYERS, POSITIONS, VOCABULARY, WIDTH},
    parameters::Parameters,
    settings::Settings,
};
use candle_core::{Device, Result, Tensor};

/// Query heads of a block.
const HEADS: usize = 4;
/// Key and value heads of a block: each is shared by two query heads.
const KEY_HEADS: usize = 2;
/// Width of a head.
const HEAD: usize = WIDTH / HEADS;
/// Width between the two products of the feed-forward part.
const INNER: usize = 2 * WIDTH;
/// What the wavelengths of rotary positions are powers of.
const BASE: f64 = 10_000.0;

pub(super) struct Llama {
    embed_tokens: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    lm_head: Tensor,
    /// One row of angles' cosines for each position.
    cosines: Tensor,
    sines: Tensor,
}

struct Block {
    input_layernorm: Tensor,
    q_proj: Tensor,
    k_proj: Tensor,
    v_proj: Tensor,
    o_proj: Tensor,
    post_attention_layernorm: Tensor,
    gate_proj: Tensor,
    up_proj: Tensor,
    down_proj: Tensor,
}

/// The angles of one batch's positions.
struct Angles {
    cosines: Tensor,
    sines: Tensor,
}

impl Llama {
    pub(super) fn new(parameters: &mut Parameters) -> Result<Self> {
        let embed_tokens = parameters.normal("model.embed_tokens.weight", &[VOCABULARY, WIDTH], DEVIATION)?;
        let mut blocks = Vec::new();
        for layer in 0..LAYERS {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            let mut matrix = |part: &str, outer: usize, inner: usize| {
                parameters.normal(&name(part), &[outer, inner], DEVIATION)
            };
            let (q_proj, o_proj) =
                (matrix("self_attn.q_proj", WIDTH, WIDTH)?, matrix("self_attn.o_proj", WIDTH, WIDTH)?);
            let k_proj = matrix("self_attn.k_proj", KEY_HEADS * HEAD, WIDTH)?;
            let v_proj = matrix("self_attn.v_proj", KEY_HEADS * HEAD, WIDTH)?;
            let gate_proj = matrix("mlp.gate_proj", INNER, WIDTH)?;
            let up_proj = matrix("mlp.up_proj", INNER, WIDTH)?;
            let down_proj = matrix("mlp.down_proj", WIDTH, INNER)?;
            let input_layernorm = parameters.constant(&name("input_layernorm"), &[WIDTH], 1.0)?;
            let post_attention_layernorm =
                parameters.constant(&name("post_attention_layernorm"), &[WIDTH], 1.0)?;
            blocks.push(Block {
                input_layernorm,
                q_proj,
                k_proj,
                v_proj,
                o_proj,
                post_attention_layernorm,
                gate_proj,
                up_proj,
                down_proj,
            });
        }
        let norm = parameters.constant("model.norm.weight", &[WIDTH], 1.0)?;
        let lm_head = parameters.normal("lm_head.weight", &[VOCABULARY, WIDTH], DEVIATION)?;
        let (mut cosines, mut sines) = (Vec::new(), Vec::new());
        for position in 0..POSITIONS {
            for pair in 0..HEAD / 2 {
                let angle = position as f64 / BASE.powf(2.0 * pair as f64 / HEAD as f64);
                cosines.push(angle.cos());
                sines.push(angle.sin());
            }
        }
        let table =
            |values| Tensor::from_vec(values, (POSITIONS, HEAD / 2), &Device::Cpu)?.to_dtype(lm_head.dtype());
        let (cosines, sines) = (table(cosines)?, table(sines)?);
        Ok(Self { embed_tokens, blocks, norm, lm_head, cosines, sines })
    }
}

/// Each head as often as queries share it, beside itself.
fn repeated(x: &Tensor) -> Result<Tensor> {
    let (rows, heads, positions, width) = x.dims4()?;
    let times = HEADS / KEY_HEADS;
    let repeated = x.unsqueeze(2)?.broadcast_as((rows, heads, times, positions, width))?;
    repeated.contiguous()?.reshape((rows, heads * times, positions, width))
}

impl Block {
    fn forward(&self, x: &Tensor, angles: &Angles, batch: &Batch, settings: &Settings) -> Result<Tensor> {
        let normal = layers::rms_norm(x, &self.input_layernorm, settings)?;
        let project = |weight: &Tensor, heads| layers::heads(&layers::product(&normal, &weight.t()?)?, heads);
        let turned = |x: &Tensor| layers::rotated(x, &angles.cosines, &angles.sines, settings);
        let queries = turned(&project(&self.q_proj, HEADS)?)?;
        let keys = repeated(&turned(&project(&self.k_proj, KEY_HEADS)?)?)?;
        let values = repeated(&project(&self.v_proj, KEY_HEADS)?)?;
        let seen = layers::attention([&queries, &keys, &values], batch, settings)?;
        let x = (x + layers::product(&seen, &self.o_proj.t()?)?)?;
        let normal = layers::rms_norm(&x, &self.post_attention_layernorm, settings)?;
        let gate = candle_nn::ops::silu(&layers::product(&normal, &self.gate_proj.t()?)?)?;
        let inner = (gate * layers::product(&normal, &self.up_proj.t()?)?)?;
        &x + layers::product(&inner, &self.down_proj.t()?)?
    }
}

impl Decoder for Llama {
    fn logits(&self, batch: &Batch, settings: &Settings) -> Result<Tensor> {
        let angles = Angles {
            cosines: layers::rows_of(&self.cosines, &batch.positions)?,
            sines: layers::rows_of(&self.sines, &batch.positions)?,
        };
        let mut x = layers::rows_of(&self.embed_tokens, &batch.tokens)?;
        for block in &self.blocks {
            x = block.forward(&x, &angles, batch, settings)?;
        }
        layers::product(&layers::rms_norm(&x, &self.norm, settings)?, &self.lm_head.t()?)
    }
}
