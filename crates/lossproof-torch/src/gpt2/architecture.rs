//! What the trainer asks of an architecture, answered for GPT-2.

use super::Gpt2Config;
use super::model::Gpt2;
use crate::architecture::{Architecture, Declared, Initial, Model, too_large};
use tch::Tensor;

/// Standard deviation of GPT-2's initial weights (Radford et al. 2018, §4.1).
const DEVIATION: f64 = 0.02;

impl Architecture for Gpt2Config {
    fn name(&self) -> &str {
        &self.name
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn positions(&self) -> usize {
        self.positions
    }

    fn layout(&self) -> &'static str {
        "Conv1D weights are [in, out]"
    }

    fn has_dropout(&self) -> bool {
        true
    }

    fn problem(&self) -> Option<String> {
        if [self.vocabulary, self.positions, self.width, self.heads].contains(&0) {
            Some("every size but the number of layers must be positive".to_owned())
        } else if !self.width.is_multiple_of(self.heads) {
            let (width, heads) = (self.width, self.heads);
            Some(format!("width {width} is not a multiple of {heads} heads: change one of them"))
        } else {
            too_large(self.elements())
        }
    }

    /// They start as GPT-2's do: normal weights, those that end a residual branch scaled by `1/√(2·layers)`
    /// (Radford et al. 2019, §2.3), gains one, biases zero.
    fn parameters(&self) -> Vec<Declared> {
        let width = self.width;
        let weight = Initial::Normal(DEVIATION);
        let residual = Initial::Normal(DEVIATION / (2.0 * self.layers as f64).sqrt());
        let gain = Initial::Constant(1.0);
        let bias = |name: &str, outputs: usize| {
            Declared::new(format!("{name}.bias"), [outputs], Initial::Constant(0.0))
        };
        let mut parameters = Vec::with_capacity(4 + 12 * self.layers);
        let mut embedding = Declared::new("wte.weight", [self.vocabulary, width], weight);
        embedding.tied_to = Some("lm_head.weight".to_owned());
        parameters.push(embedding);
        parameters.push(Declared::new("wpe.weight", [self.positions, width], weight));
        for block in 0..self.layers {
            let affine = [
                ("ln_1", vec![width], gain),
                ("attn.c_attn", vec![width, 3 * width], weight),
                ("attn.c_proj", vec![width, width], residual),
                ("ln_2", vec![width], gain),
                ("mlp.c_fc", vec![width, 4 * width], weight),
                ("mlp.c_proj", vec![4 * width, width], residual),
            ];
            for (name, shape, initial) in affine {
                let name = format!("h.{block}.{name}");
                let bias = bias(&name, shape[shape.len() - 1]);
                parameters.push(Declared::new(format!("{name}.weight"), shape, initial));
                parameters.push(bias);
            }
        }
        parameters.push(Declared::new("ln_f.weight", [width], gain));
        parameters.push(bias("ln_f", width));
        parameters
    }

    fn model(&self, tensors: &[Tensor]) -> Box<dyn Model> {
        Box::new(Gpt2::new(self, tensors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_those_of_the_released_models() {
        let size = |name: &str| {
            let config = Gpt2Config::named(name).unwrap();
            let listed = config.parameters().iter().map(|one| one.shape.iter().product::<usize>()).sum();
            assert_eq!(config.elements(), Some(listed), "{name}");
            listed
        };
        let released = ["gpt2-small", "gpt2-medium", "gpt2-large", "gpt2-xl"].map(size);
        assert_eq!(released, [124_439_808, 354_823_168, 774_030_080, 1_557_611_200]);
        assert_eq!(["gpt2-pico", "gpt2-nano"].map(size), [1_528, 35_744]);
        assert_eq!(Gpt2Config::named("gpt3"), None);
    }
}
