//! Parameters under Hugging Face's names, in the model's order.

use crate::{Block, Element, Gpt2, config::Gpt2Config};
use dfdx::prelude::*;

/// Something done to every parameter in turn.
pub(crate) trait Visitor<E: Element, D: Device<E>> {
    type Error;

    /// One parameter.
    fn tensor<S: ConstShape>(&mut self, name: &str, tensor: &mut Tensor<S, E, D>) -> Result<(), Self::Error>;

    /// One parameter that Hugging Face stores as three side by side along the last axis.
    fn fused<S: ConstShape>(
        &mut self,
        name: &str,
        parts: &mut [Tensor<S, E, D>; 3],
    ) -> Result<(), Self::Error>;
}

impl<K: Gpt2Config, E: Element, D: Device<E>> Gpt2<K, E, D> {
    pub(crate) fn visit<V: Visitor<E, D>>(&mut self, visitor: &mut V) -> Result<(), V::Error> {
        visitor.tensor("wte.weight", &mut self.wte)?;
        visitor.tensor("wpe.weight", &mut self.wpe)?;
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            block.visit(layer, visitor)?;
        }
        visitor.tensor("ln_f.weight", &mut self.ln_f_weight)?;
        visitor.tensor("ln_f.bias", &mut self.ln_f_bias)
    }
}

impl<K: Gpt2Config, E: Element, D: Device<E>> Block<K, E, D> {
    fn visit<V: Visitor<E, D>>(&mut self, layer: usize, visitor: &mut V) -> Result<(), V::Error> {
        let name = |suffix| format!("h.{layer}.{suffix}");
        visitor.tensor(&name("ln_1.weight"), &mut self.ln_1_weight)?;
        visitor.tensor(&name("ln_1.bias"), &mut self.ln_1_bias)?;
        visitor.fused(&name("attn.c_attn.weight"), &mut self.qkv_weight)?;
        visitor.fused(&name("attn.c_attn.bias"), &mut self.qkv_bias)?;
        visitor.tensor(&name("attn.c_proj.weight"), &mut self.proj_weight)?;
        visitor.tensor(&name("attn.c_proj.bias"), &mut self.proj_bias)?;
        visitor.tensor(&name("ln_2.weight"), &mut self.ln_2_weight)?;
        visitor.tensor(&name("ln_2.bias"), &mut self.ln_2_bias)?;
        visitor.tensor(&name("mlp.c_fc.weight"), &mut self.fc_weight)?;
        visitor.tensor(&name("mlp.c_fc.bias"), &mut self.fc_bias)?;
        visitor.tensor(&name("mlp.c_proj.weight"), &mut self.out_weight)?;
        visitor.tensor(&name("mlp.c_proj.bias"), &mut self.out_bias)
    }
}

/// Three row-major matrices with the same row length, side by side.
pub(crate) fn fuse<E: Copy>(parts: [&[E]; 3], columns: usize) -> Vec<E> {
    let [query, key, value] = parts.map(|part| part.chunks_exact(columns));
    let mut fused = Vec::with_capacity(3 * parts[0].len());
    for ((query, key), value) in query.zip(key).zip(value) {
        for row in [query, key, value] {
            fused.extend_from_slice(row);
        }
    }
    fused
}

/// The three matrices that [`fuse`] put side by side.
pub(crate) fn split<E: Copy>(fused: &[E], columns: usize) -> [Vec<E>; 3] {
    [0, 1, 2].map(|part| {
        let rows = fused.chunks_exact(3 * columns);
        rows.flat_map(|row| row[part * columns..(part + 1) * columns].iter().copied()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_undoes_fusing() {
        let parts = [vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9, 10, 11, 12]];
        let fused = fuse(parts.each_ref().map(Vec::as_slice), 2);
        assert_eq!(fused, [1, 2, 5, 6, 9, 10, 3, 4, 7, 8, 11, 12]);
        assert_eq!(split(&fused, 2), parts);
    }
}
