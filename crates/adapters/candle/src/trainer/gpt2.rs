//! GPT-2 under Hugging Face's names and in its layouts.

use super::{
    batch::Batch,
    layers,
    model::{DEVIATION, Decoder, LAYERS, POSITIONS, VOCABULARY, WIDTH},
    parameters::Parameters,
    settings::Settings,
};
use candle_core::{D, Result, Tensor};

/// Attention heads of a block.
const HEADS: usize = 2;

pub(super) struct Gpt2 {
    /// Token embedding, and the head.
    wte: Tensor,
    wpe: Tensor,
    blocks: Vec<Block>,
    ln_f: Affine,
}

/// A weight `[in, out]` or a gain, and a bias.
struct Affine {
    weight: Tensor,
    bias: Tensor,
}

struct Block {
    ln_1: Affine,
    c_attn: Affine,
    attn_c_proj: Affine,
    ln_2: Affine,
    c_fc: Affine,
    mlp_c_proj: Affine,
}

impl Affine {
    fn norm(parameters: &mut Parameters, name: &str) -> Result<Self> {
        let weight = parameters.constant(&format!("{name}.weight"), &[WIDTH], 1.0)?;
        let bias = parameters.constant(&format!("{name}.bias"), &[WIDTH], 0.0)?;
        Ok(Self { weight, bias })
    }

    fn linear(parameters: &mut Parameters, name: &str, inner: usize, outer: usize) -> Result<Self> {
        let weight = parameters.normal(&format!("{name}.weight"), &[inner, outer], DEVIATION)?;
        let bias = parameters.constant(&format!("{name}.bias"), &[outer], 0.0)?;
        Ok(Self { weight, bias })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        layers::product(x, &self.weight)?.broadcast_add(&self.bias)
    }

    fn normalise(&self, x: &Tensor, settings: &Settings) -> Result<Tensor> {
        layers::layer_norm(x, &self.weight, &self.bias, settings)
    }
}

impl Gpt2 {
    pub(super) fn new(parameters: &mut Parameters) -> Result<Self> {
        let wte = parameters.normal("wte.weight", &[VOCABULARY, WIDTH], DEVIATION)?;
        let wpe = parameters.normal("wpe.weight", &[POSITIONS, WIDTH], DEVIATION)?;
        let mut blocks = Vec::new();
        for layer in 0..LAYERS {
            let name = |part: &str| format!("h.{layer}.{part}");
            blocks.push(Block {
                ln_1: Affine::norm(parameters, &name("ln_1"))?,
                c_attn: Affine::linear(parameters, &name("attn.c_attn"), WIDTH, 3 * WIDTH)?,
                attn_c_proj: Affine::linear(parameters, &name("attn.c_proj"), WIDTH, WIDTH)?,
                ln_2: Affine::norm(parameters, &name("ln_2"))?,
                c_fc: Affine::linear(parameters, &name("mlp.c_fc"), WIDTH, 4 * WIDTH)?,
                mlp_c_proj: Affine::linear(parameters, &name("mlp.c_proj"), 4 * WIDTH, WIDTH)?,
            });
        }
        Ok(Self { wte, wpe, blocks, ln_f: Affine::norm(parameters, "ln_f")? })
    }
}

impl Block {
    fn forward(&self, x: &Tensor, batch: &Batch, settings: &Settings) -> Result<Tensor> {
        let fused = self.c_attn.apply(&self.ln_1.normalise(x, settings)?)?;
        let part = |index| layers::heads(&fused.narrow(D::Minus1, index * WIDTH, WIDTH)?, HEADS);
        let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
        let seen = layers::attention([&queries, &keys, &values], batch, settings)?;
        let x = (x + self.attn_c_proj.apply(&seen)?)?;
        let inner = self.c_fc.apply(&self.ln_2.normalise(&x, settings)?)?;
        &x + self.mlp_c_proj.apply(&layers::gelu(&inner, settings)?)?
    }
}

impl Decoder for Gpt2 {
    fn logits(&self, batch: &Batch, settings: &Settings) -> Result<Tensor> {
        let tokens = layers::rows_of(&self.wte, &batch.tokens)?;
        let mut x = (tokens + layers::rows_of(&self.wpe, &batch.positions)?)?;
        for block in &self.blocks {
            x = block.forward(&x, batch, settings)?;
        }
        layers::product(&self.ln_f.normalise(&x, settings)?, &self.wte.t()?)
    }
}
